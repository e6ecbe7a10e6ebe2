"""What the verbs with arguments of their own share: errors in one line. Nothing heavy is imported."""

from __future__ import annotations

import argparse
from typing import NoReturn

from fer_lightning.errors import ConfigError

__all__ = ["OneLineParser"]


class OneLineParser(argparse.ArgumentParser):
    """Raises one line instead of printing the usage."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{self.prog}: {message}")
