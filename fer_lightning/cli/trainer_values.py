"""Values of the trainer's options that Lightning would refuse only when the run begins; nothing heavy is imported."""

from __future__ import annotations

import re
from typing import Any

from fer_lightning.errors import ConfigError

__all__ = ["check_trainer_value"]

_NOTHING = ("", "null", "none", "~")


def check_trainer_value(key: str, value: Any, where: str) -> None:
    """Refuse a value of an option of the trainer that is certainly wrong although it has the right type.

    Args:
        key: an option, such as ``trainer.max_time``; others than the trainer's pass.
        value: what was given, as text or as YAML has read it.
        where: the beginning of a message.

    Raises:
        ConfigError: with what to type instead.
    """
    text = str(value).strip()
    if isinstance(value, dict | list | bool | None) or text.lower() in _NOTHING or text[0] in "{['\"":
        return
    if key == "trainer.max_time" and isinstance(value, str) and not re.fullmatch(r"\d+(:\d\d){3}", text):
        raise ConfigError(f"{where} must be DD:HH:MM:SS, not '{text}'; an hour is --trainer.max_time 00:01:00:00")
    if key in ("trainer.max_epochs", "trainer.max_steps") and re.fullmatch(r"-(?:[2-9]|\d\d+)", text):
        raise ConfigError(f"{where} must be 0 or more, or -1 for no limit, not {text}")
    if key == "trainer.devices" and re.fullmatch(r"0|[A-Za-z]+", text) and text != "auto":
        raise ConfigError(f"{where} must be their number, a list as [0,1], or auto, not '{text}'")
