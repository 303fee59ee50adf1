"""Which variables are secrets in a job, who is given them, and what must not hold them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from .dotenv import is_key
from .errors import FailureKind, StepError, UsageError
from .keys import sha256
from .masking import Masker
from .spec.model import Spec, Step


class Secrets:
    """The secrets that a job can reach.

    Args:
        spec: names secrets beside the providers' keys.
        environ: has their values.
    """

    def __init__(self, spec: Spec, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._shared = spec.secrets
        self.names = named(spec) | {name for name in environ if is_key(name)}
        self.masker = Masker({name: environ.get(name, "") for name in sorted(self.names)})
        self._open = {name: value for name, value in environ.items() if name not in self.names}

    def environ_of(self, step: Step) -> dict[str, str]:
        """Return what a step's processes get: no secret but those that it is given by name."""
        return {**self._open, **self._granted(step)}

    def parts_of(self, step: Step) -> dict[str, str]:
        """Return a hash for each secret that a step is given: they count for its key.

        Raises:
            StepError: one of them is not set.
        """
        for name in (*self._shared, *step.secrets):
            if not self._environ.get(name):
                raise StepError(
                    f"the secret {name} is not set",
                    kind=FailureKind.AUTH,
                    hint=f"set {name} in the environment, or in a .env file",
                )
        return {name: sha256(value.encode()) for name, value in sorted(self._granted(step).items())}

    def _granted(self, step: Step) -> dict[str, str]:
        names = (*self._shared, *step.secrets)
        return {name: self._environ[name] for name in names if self._environ.get(name)}


def masked(error: StepError, masker: Masker) -> StepError:
    """Return the error without secrets."""
    if not masker:
        return error
    return StepError(
        masker.text(error.message),
        kind=error.kind,
        place=masker.text(error.place),
        hint=masker.text(error.hint),
        retry_after_s=error.retry_after_s,
    )


def untold(error: StepError) -> StepError:
    """Return the error without its text, which may quote a prompt or an answer."""
    return StepError(
        f"the call failed ({error.kind})",
        kind=error.kind,
        hint="what the server said is not kept: `record: hashes`",
        retry_after_s=error.retry_after_s,
    )


def named(spec: Spec) -> set[str]:
    """Return the variables that a spec says are secrets."""
    return {*spec.secrets, *(name for step in spec.steps.values() for name in step.secrets)}


def refuse_written(spec: Spec, masker: Masker) -> None:
    """Raise UsageError if a job file, a file that it names, or an input holds a known secret.

    They are frozen in the run folder, where no secret may be.
    """
    if not masker:
        return
    given = msgspec.json.encode(spec.given)
    texts = {"the job file": spec.source.text.encode(), "the value of an input": given}
    texts |= {f"the file {name}": content for name, content in spec.attachments.items()}
    for what, content in texts.items():
        masked = masker.data(content)
        if masked != content:
            raise UsageError(
                f"{what} holds a key, which would be stored with the job",
                place=spec.source.file,
                hint="take it out: keys come from the environment, and steps get those that"
                " they name under `secrets:`",
            )
