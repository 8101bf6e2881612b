"""How a presigned plan lies in the ledger: its head, and pages of signed parts, each a text of its own. Pure.

Names are ``source`` or ``destination`` for the head, ``destination:3`` for page 3 of an upload's parts, and
``destination:asked`` for how often the completion was sent without an answer.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from providers.plans import PAGE_PARTS, PresignedDownload, PresignedPlan, PresignedUpload, SignedPart, refused

SOURCE, DESTINATION = "source", "destination"
ASKED = f"{DESTINATION}:asked"


class Page(BaseModel):
    """Signed parts by their index in the object, counted from 0."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    parts: dict[int, SignedPart] = Field(default_factory=dict, repr=False)
    refused: frozenset[int] = frozenset()
    """Those that were signed anew because the store refused them: once more, and the refusal counts."""

    @classmethod
    def load(cls, text: str | None) -> Page:
        """Raises InvalidValue."""
        if text is None:
            return cls()
        try:
            return cls.model_validate_json(text)
        except ValidationError as exc:
            raise refused(exc) from None

    def dump(self) -> str:
        return self.model_dump_json(exclude_defaults=True)


def page_of(index: int) -> int:
    return index // PAGE_PARTS


def page_name(number: int) -> str:
    return f"{DESTINATION}:{number}"


def texts_of(plan: PresignedPlan) -> dict[str, str]:
    """What is stored for a plan. The head of an upload lists no parts, and counts on where the list ended."""
    if isinstance(plan, PresignedDownload):
        return {SOURCE: plan.to_json()}
    head = plan.model_copy(
        update={
            "parts": (),
            "target": plan.object_url,
            "first_part_number": plan.number(len(plan.parts)) - len(plan.parts),
        }
    )
    texts = {DESTINATION: head.to_json()}
    for start in range(0, len(plan.parts), PAGE_PARTS):
        page = Page(parts=dict(enumerate(plan.parts[start : start + PAGE_PARTS], start)))
        texts[page_name(page_of(start))] = page.dump()
    return texts


def head_of(text: str) -> PresignedUpload:
    """The inverse for the head of an upload."""
    return PresignedUpload.from_json(text)
