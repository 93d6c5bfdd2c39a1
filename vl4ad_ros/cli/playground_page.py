"""The page of the playground, in NiceGUI: it shows a session and passes on what is typed and clicked."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any

from nicegui import binding, run, ui

from vl4ad_ros.cli.playground_session import VIEWS, PlaygroundSession, Side
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.media import encode_jpeg
from vl4ad_ros.network.pixel_explainer import NearConcept

# Seconds without a key until the map is made again.
PAUSE = 0.3
_THEMES = {False: "githubLight", True: "githubDark"}
_CSS = """
.sides { display: grid; gap: 20px; width: 100%; grid-template-columns: minmax(0, 1fr); }
.side { display: grid; gap: 16px; grid-template-columns: minmax(0, 17fr) minmax(0, 10fr); align-items: start; }
.sides.compare { grid-template-columns: repeat(2, minmax(0, 1fr)); }
.sides.compare .side { grid-template-columns: minmax(0, 1fr); }
.side .nicegui-codemirror { height: 38rem; border: 1px solid #8884; border-radius: 6px; font-size: 13px; }
.sides.compare .nicegui-codemirror { height: 20rem; }
.controls { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 8px 24px; width: 100%;
  align-items: end; }
.near { display: grid; grid-template-columns: max-content max-content minmax(20px, 1fr) max-content; gap: 2px 12px;
  width: 100%; font-size: 13px; align-items: center; }
.bar { height: 8px; border-radius: 4px; background: var(--q-primary); } .bar.out { background: #ff208c; }
.quiet { opacity: .7; font-size: 13px; }
@media (max-width: 900px) {
  .sides.compare, .side { grid-template-columns: minmax(0, 1fr); } .near .quiet { display: none; }
  .near { grid-template-columns: max-content minmax(20px, 1fr) max-content; }
}
"""


def serve(session: PlaygroundSession, node: str, host: str, port: int, open: bool) -> None:
    """Serve the page until interrupted; all windows share the session. `node` is where prompt sets are sent to."""
    binding.MAX_PROPAGATION_TIME = 1.0  # It warns on a busy machine else.
    print(f"playground  http://{host}:{port}  (Ctrl-C ends it)", flush=True)
    ui.run(
        lambda: PlaygroundPage(session, node).build(),
        host=host,
        port=port,
        title="vl4ad playground",
        favicon="\N{CONSTRUCTION SIGN}",
        reload=False,
        show=open,
        show_welcome_message=False,
    )


class PlaygroundPage:
    """One browser window."""

    def __init__(self, session: PlaygroundSession, node: str) -> None:
        self.session, self.node = session, node
        self._turn = 0

    def build(self) -> None:
        """Lay the page out, and make the first map."""
        session = self.session
        ui.colors(primary="#0d857b")
        ui.add_css(_CSS)
        ui.dark_mode().bind_value_from(session, "dark")
        with ui.header().classes("items-center gap-4 py-2"):
            ui.label("vl4ad playground").classes("text-lg font-medium")
            ui.label(session.detector.bundle.card.name).classes("quiet")
            ui.space()
            views = ui.toggle(list(VIEWS), on_change=lambda: self.changed(0)).bind_value(session, "view")
            views.props("no-caps dense padding='2px 10px' color=teal-9 toggle-color=teal-6")
            compare = ui.switch("Compare A | B", on_change=lambda: self.changed(0)).bind_value(session, "compare")
            compare.props("color=white keep-color")
            ui.button(icon="dark_mode", on_click=self._switch_theme).props("flat round color=white aria-label=dark")
        with ui.element("div").classes("controls"):
            self._build_controls()
        with ui.element("div").classes("sides") as self._sides:
            self._panels = [SidePanel(self, side, name) for side, name in zip(session.sides, "AB", strict=True)]
        self._panels[1].box.bind_visibility_from(session, "compare")
        ui.timer(0, lambda: self.changed(0), once=True)

    def _build_controls(self) -> None:
        session, controls, card = self.session, self.session.controls, self.session.detector.bundle.card
        names = {number: source.name for number, source in enumerate(session.sources)}
        ui.select(names, label="picture", on_change=self._take_source, value=session.source).bind_value(
            session, "source"
        )
        with ui.column().classes("gap-0"):
            ui.label().classes("quiet").bind_text_from(session, "index", lambda index: f"frame {index + 1}")
            self._frame = ui.slider(min=0, max=1, on_change=lambda: self.changed(0.1)).props("aria-label=frame")
            self._frame.bind_value(session, "index")
        methods = [*card.methods, *(["both"] if len(card.methods) > 1 else [])]
        ui.select(methods, label="method", on_change=self._other_scale).bind_value(controls, "method")
        ui.select(card.usable_scorings, label="score", on_change=self._other_scale).bind_value(controls, "scoring")
        with ui.column().classes("gap-0"):
            ui.label().classes("quiet").bind_text_from(controls, "threshold", lambda value: f"threshold {value:.3f}")
            threshold = ui.slider(min=0, max=1, step=0.001, on_change=lambda: self.changed(0.05))
            threshold.props("aria-label=threshold").bind_value(controls, "threshold")
        temperature = ui.number("temperature", placeholder="the prompt set's own", min=1e-4, step=0.01)
        temperature.props("clearable stack-label").bind_value(controls, "temperature").on_value_change(self.changed)
        self._show_count()

    async def _other_scale(self) -> None:
        """Take the bundle's own threshold for another method or score."""
        self.session.reset_threshold()
        await self.changed(0)

    async def _switch_theme(self) -> None:
        self.session.dark = not self.session.dark
        for panel in self._panels:
            panel.editor.theme = _THEMES[self.session.dark]

    async def _take_source(self) -> None:
        """Begin with the first picture of another source."""
        self.session.index = 0
        self._show_count()
        await self.changed(0)

    def _show_count(self) -> None:
        count = self.session.sources[self.session.source].count
        self._frame.props(f"max={max(count - 1, 1)}").enabled = count > 1

    async def changed(self, pause: float = PAUSE) -> None:
        """Make the maps that are shown anew, unless something else changes within the pause (seconds)."""
        self._turn += 1
        turn = self._turn
        self._sides.classes(**{"add" if self.session.compare else "remove": "compare"})
        await asyncio.sleep(pause)
        for panel in self._panels[: 2 if self.session.compare else 1]:
            if turn == self._turn:
                panel.show(await run.io_bound(self._draw, panel.side))

    def _draw(self, side: Side) -> str:
        self.session.update(side)
        jpeg = encode_jpeg(self.session.picture(side))
        return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


class SidePanel:
    """One prompt set on the page: picture, explanation, editor."""

    def __init__(self, page: PlaygroundPage, side: Side, name: str) -> None:
        self._page, self._session, self.side = page, page.session, side
        with ui.element("div").classes(f"side side-{name.lower()}") as self.box:
            with ui.column().classes("gap-2 w-full"):
                self._image = ui.interactive_image(on_mouse=self._click, cross="#fff8").classes("w-full rounded map")
                self._status = ui.label().classes("quiet status")
                with ui.card().classes("w-full gap-1 explanation").props("flat bordered"):
                    self._words = ui.label().style("white-space: pre-line")
                    self._near = ui.element("div").classes("near")
            with ui.column().classes("gap-2 w-full"):
                with ui.row().classes("w-full items-center no-wrap"):
                    ui.label(name).classes("text-lg font-medium")
                    names = list(self._session.prompt_sets())
                    self._open = ui.select(names, label="open", on_change=self._load).classes("grow").props("dense")
                    ui.button("Save", on_click=self._save).props("dense outline no-caps padding='4px 12px'")
                    ui.button("Send", on_click=self._send).props("dense no-caps padding='4px 12px'")
                self.editor = ui.codemirror(language="YAML", theme=_THEMES[self._session.dark], line_wrapping=True)
                self.editor.classes("w-full").bind_value(side, "text").on_value_change(lambda: page.changed())
                self._error = ui.label().classes("text-negative error")
                self._note = ui.label().classes("quiet note").style("overflow-wrap: anywhere")

    def show(self, source: str) -> None:
        """Show what the session made of the text."""
        side, point = self.side, self._session.point
        self._image.set_source(source)
        x, y = ((value + 0.5) * self._session.shown_scale for value in point or (-99, -99))
        circle = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9" fill="none" stroke='
        self._image.content = f'{circle}"#000" stroke-width="5"/>{circle}"#fff" stroke-width="2"/>'
        self._error.text = side.error
        if side.result is not None and side.prompts is not None:
            regions, prompts = len(side.result.regions or ()), side.prompts
            self._status.text = (
                f"{regions} {'anomaly' if regions == 1 else 'anomalies'} · {prompts.num_id} classes, {prompts.num_ood} "
                f"out of distribution, {len(prompts.concepts)} concepts · {side.seconds * 1000:.0f} ms"
            )
        self._words.text = "\n".join(side.words) or "Click a pixel to see which concepts are near it."
        self._near.clear()
        with self._near:
            self._list_near(side.found.concepts if side.found else ())

    @staticmethod
    def _list_near(concepts: Sequence[NearConcept]) -> None:
        largest = max((abs(near.cosine) for near in concepts), default=1.0)
        for near in concepts:
            ui.label(near.concept)
            ui.label(near.column if near.known else "out of distribution").classes("quiet")
            with ui.element("div").classes("track"):
                bar = ui.element("div").classes("bar" if near.known else "bar out")
                bar.style(f"width: {100 * max(near.cosine, 0) / largest:.0f}%")
            ui.label(f"{near.cosine:.3f}")

    def _load(self, event: Any) -> None:
        path = self._session.prompt_sets().get(event.value)
        if path is not None:
            self.editor.value = path.read_text(encoding="utf-8")

    async def _click(self, event: Any) -> None:
        scale = self._session.shown_scale
        self._session.point = int(event.image_x / scale), int(event.image_y / scale)
        await self._page.changed(0)

    async def _save(self) -> str | None:
        try:
            path = await run.io_bound(self._session.save, self.side)
        except Vl4adError as error:
            self._note.text = f"Not saved: {error}"
            return None
        self._open.options = list(self._session.prompt_sets())
        self._open.update()
        self._note.text = f"Saved {path.with_suffix('.yaml')} and {path.name}"
        return str(path)

    async def _send(self) -> None:
        path = await self._save()
        if path is None:
            return
        node = self._page.node
        try:
            from vl4ad_ros.nodes.remote_parameter import set_remote_parameter

            await run.io_bound(set_remote_parameter, node, "prompt_set", path)
            self._note.text = f"{node} uses it from its next frame on"
        except ImportError:
            self._note.text = f"rclpy is not installed here; run: ros2 param set {node} prompt_set {path}"
        except Vl4adError as error:
            self._note.text = f"Not sent: {error} Once it runs: ros2 param set {node} prompt_set {path}"
