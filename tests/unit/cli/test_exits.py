from __future__ import annotations

import pytest

from apxm import errors
from apxm.cli.exits import MEANING, Exit, exit_code

ALL = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ApxmError)]


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind is not errors.ApxmError])
def test_every_error_has_the_exit_code_of_its_class(kind: type[errors.ApxmError]) -> None:
    code = exit_code(kind("x"))
    expected = {"CANCELLED": "INTERRUPTED"}.get(kind.failure.name, kind.failure.name)
    assert code == (Exit.INTERNAL if kind is errors.InternalError else Exit[expected])


def test_classes_differ_in_their_exit_codes() -> None:
    kinds = [errors.InvalidError, errors.DeniedError, errors.BudgetError, errors.DeadlineError, errors.TransientError]
    kinds += [errors.HandlerError, errors.UnknownEffectError, errors.RunCancelled, errors.InternalError]
    codes = [exit_code(kind("x")) for kind in kinds]
    assert codes == [2, 3, 4, 5, 6, 7, 8, 130, 1]


def test_every_exit_code_is_explained() -> None:
    assert set(MEANING) == set(Exit)
