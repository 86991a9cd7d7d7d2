r"""Is this answer right? Verifiers of mathematics, multiple choice and programs.

    with Pool(workers=8) as pool:
        for key, verdict in pool.run((key, answer_text, reference, kind, options) for ...):
            ...

`verify` does one answer, through a pool of its own. `Pool.clusters` groups answers that are equal,
for majority votes; `equal` compares two. `check_reference` says at load what is wrong with a gold.

Kinds: ``math``, ``choice``, ``code``, and ``none``, which cannot be verified. An answer's text is
what a model wrote; a thought in it is cut off, and only its solution section is read. Tests of a
code question: see `programs`; of a math question (several golds, tolerance, unit, order): see
`compare.Rules`.
"""

from stages.verifiers.code.sandbox import NoSandbox
from stages.verifiers.verification import (
    KINDS,
    Kind,
    Pool,
    Task,
    Verdict,
    VerifyOptions,
    check_reference,
    equal,
    malformed,
    verify,
)

__all__ = [
    "KINDS",
    "Kind",
    "NoSandbox",
    "Pool",
    "Task",
    "Verdict",
    "VerifyOptions",
    "check_reference",
    "equal",
    "malformed",
    "verify",
]
