from __future__ import annotations

from fer_lightning import errors


def test_mistakes_of_users_exit_with_2_and_failures_with_1() -> None:
    codes = {name: getattr(errors, name).exit_code for name in errors.__all__}
    failures = {"FERError", "NonFiniteError", "StorageError"}
    assert {name for name, code in codes.items() if code == 1} == failures
    assert {name for name, code in codes.items() if code == 2} == set(codes) - failures
    assert all(issubclass(getattr(errors, name), errors.FERError) for name in errors.__all__)
