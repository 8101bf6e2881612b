"""When each kind of event is written, and what its data holds."""

EVENTS: dict[str, tuple[str, str]] = {
    "queued": ("submitted, resumed, retried, or back in the queue for a later try", "-"),
    "probed": ("the source was looked at and the parts are planned", "`size_bytes`, `part_size`, `part_count`"),
    "started": ("the parts of this plan are being moved", "the same; empty when a wait has ended"),
    "progress": ("a part was stored", "`done_bytes`, `parts_done`"),
    "waiting": ("nothing moves for a reason that may pass", "the error that is waited out: `code`, `message`"),
    "retrying": ("a step failed and is done again", "the error: `code`, `number`, `message`; `part`, `attempt`"),
    "paused": ("paused; what is stored stays", "-"),
    "resumed": ("planned again after an interruption, with the parts that were kept", "as `probed`"),
    "completed": ("the object is whole, verified and in place", "the result: `size_bytes`, `verified`, checksums"),
    "failed": ("given up; `retry` may be called", "the error: `code`, `number`, `message`"),
    "cancelled": ("cancelled and cleaned up", "the error of the cleaning, if there was one"),
    "lost": ("the reader asked for events older than what is kept", "`oldest`: the position reading goes on from"),
}
