"""Where `Validation` stood before methods of other rooms asked for it."""

from tailor.learning.validation import Validation, training_key

__all__ = ["Validation", "training_key"]
