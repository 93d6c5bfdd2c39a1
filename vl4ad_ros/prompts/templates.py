"""Prompt templates by name; `{}` stands for the concept."""

from __future__ import annotations

# The 14 ViLD templates that FC-CLIP averages (github.com/bytedance/fc-clip, see docs/prompts.md).
VILD: tuple[str, ...] = (
    "a photo of a {}.",
    "This is a photo of a {}",
    "There is a {} in the scene",
    "There is the {} in the scene",
    "a photo of a {} in the scene",
    *(
        sentence.format(size, "{}")
        for size in ("small", "medium", "large")
        for sentence in (
            "a photo of a {} {}.",
            "This is a photo of a {} {}.",
            "There is a {} {} in the scene.",
        )
    ),
)

# A sentence encoder needs no "a photo of" around the word.
PLAIN: tuple[str, ...] = ("{}",)

# Our choice for road scenes.
ROAD: tuple[str, ...] = ("{}", "a photo of a {}", "a {} on the road", "a road scene with a {}")

TEMPLATES: dict[str, tuple[str, ...]] = {"vild": VILD, "plain": PLAIN, "road": ROAD}
