"""As translation's: the target is the text, the source what noise left of it."""

from __future__ import annotations

from seqlab.tasks.translate import loss


class Loss(loss.Loss):
    pass
