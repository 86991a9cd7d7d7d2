"""What runs inside the sandbox, in a bare Python from 3.8 on."""
