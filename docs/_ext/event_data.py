"""When each kind of event is written, and what its data holds."""

_ERROR = "`code`, `number`, `message` of the error"
_SO_FAR = "`done_bytes`, `parts_done`"

EVENTS: dict[str, tuple[str, str]] = {
    "queued": ("submitted, retried, or back in the queue for a later try", f"{_SO_FAR}; empty when submitted"),
    "probed": (
        "the source was looked at, and the parts are planned",
        "what is known of the source: `name`, `content_type`, `ranges`, and the kind of `validator` that pins it",
    ),
    "started": (
        "parts are being moved; told before the first one",
        f"`size_bytes` (null if unknown), `parts`, `part_size_bytes`, and where it goes on: {_SO_FAR}",
    ),
    "progress": ("parts were stored; five times a second at most", _SO_FAR),
    "waiting": ("nothing moves for a reason that may pass", f"`reason`, `delay_ms` until it looks again; {_ERROR}"),
    "retrying": ("a step failed and is done again", f"`delay_ms`, `attempt`, `part` if it is one; {_ERROR}"),
    "paused": ("paused; what is stored stays", _SO_FAR),
    "resumed": ("resumed, and queued again", _SO_FAR),
    "completed": ("the object is whole, verified and in place", "the result: `size_bytes`, `verified` and more"),
    "failed": ("given up; `retry` may be called", _ERROR),
    "cancelled": ("cancelled, and cleaned up", "the error of the clean-up, if there was one"),
    "lost": (
        "not of a transfer: the reader asked for events older than what is kept",
        "`oldest`: the position of the first that is kept",
    ),
}
