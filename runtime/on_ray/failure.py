"""An error on its way back to whoever asked, in another process."""

import pickle
import traceback
from dataclasses import dataclass
from typing import Self

from ray import cloudpickle  # not the package of that name: classes must be the ones that Ray has made here

from ..errors import RemoteFailure


@dataclass(slots=True, frozen=True)
class Failure:
    """An error and its cause, in a form that survives a process boundary."""

    error: BaseException
    cause: BaseException | None

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Wrap `error`; what cannot be pickled is replaced by its text."""
        return cls(_picklable(error), _picklable(error.__cause__) if error.__cause__ else None)

    def unwrap(self) -> BaseException:
        """The error, with its cause in place."""
        self.error.__cause__ = self.cause
        return self.error

    def __reduce__(self) -> tuple[object, ...]:
        # cloudpickle, since an error's class may live in a user's script
        return _load_failure, (cloudpickle.dumps((self.error, self.cause)),)


def _load_failure(data: bytes) -> Failure:
    """The inverse of `Failure.__reduce__`; never fails, for it must not take a batch with it."""
    try:
        error, cause = pickle.loads(data)
    except Exception as unreadable:  # its class is not importable here, for instance
        return Failure(RemoteFailure(f"an error that cannot be read in this process: {unreadable!r}"), None)
    return Failure(error, cause)


def _picklable(error: BaseException) -> BaseException:
    try:
        pickle.loads(cloudpickle.dumps(error))
    except Exception:  # whatever a foreign exception's __reduce__ raises: keep its text instead
        return RemoteFailure("".join(traceback.format_exception(error)).rstrip())
    return error
