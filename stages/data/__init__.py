"""Sources of questions: file formats, and the additions of the tiny task."""
