"""What the numbers of a data module's options may be."""

from __future__ import annotations

from collections.abc import Sequence

from fer_lightning.errors import ConfigError

__all__ = ["channel_values", "check_numbers"]


def check_numbers(
    batch_size: int, eval_batch_size: int | None, num_workers: int | None, image_size: int | None, channels: int | None
) -> None:
    """Refuse numbers that a data module cannot work with: sizes of batches and images, processes, channels.

    Raises:
        ConfigError: naming the option and the value.
    """
    for name, value in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
        if value is not None and value < 1:
            raise ConfigError(f"data.{name} must be at least 1, not {value}")
    if num_workers is not None and num_workers < 0:
        raise ConfigError(f"data.num_workers must not be negative, not {num_workers}")
    if channels not in (1, 3, None):
        raise ConfigError(f"data.channels must be 1 (gray) or 3 (RGB), not {channels}")
    if image_size is not None and image_size < 8:
        raise ConfigError(f"data.image_size must be at least 8 pixels, not {image_size}")


def channel_values(name: str, given: Sequence[float] | None, native: Sequence[float], channels: int) -> list[float]:
    """Return one value for each channel that the network gets: as given, or the data set's own.

    Args:
        name: of the option, ``mean`` or ``std``.
        given: one value, or one for each channel; ``None`` for the data set's own.
        native: the data set's own, of its own channels.
        channels: of the network's input.

    Raises:
        ConfigError: for another number of values.
    """
    if given is None:
        given = [sum(native) / len(native)] if channels == 1 else native
    if len(given) not in (1, channels):
        raise ConfigError(f"data.{name} has {len(given)} values for {channels} channels")
    return list(given) if len(given) == channels else list(given) * channels
