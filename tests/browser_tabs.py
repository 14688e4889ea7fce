"""A page in a real browser, for tests."""

from __future__ import annotations

from typing import Any


class Tab:
    """A page that was opened, with everything that it said and asked for."""

    def __init__(
        self,
        browser: Any,
        url: str,
        width: int = 1240,
        scheme: str = "light",
        hash: str = "",
        has_touch: bool = False,
    ) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": 850}, color_scheme=scheme, has_touch=has_touch)
        self.page.set_default_timeout(10_000)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append("dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(f"{url}#{hash}")
        self.page.wait_for_selector("body.ready")

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def set_ratio(self, setting: int) -> None:
        """Move the slider, and wait for what follows."""
        self.page.eval_on_selector(
            "#ratio", "(slider, to) => { slider.value = to; slider.dispatchEvent(new Event('input')); }", str(setting)
        )
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def go_to(self, number: int) -> None:
        """Click to an example further on, and wait until it is there."""
        heading = f".example h3:has-text('Example {number} ')"
        self.page.wait_for_selector(".example h3")
        while not self.page.locator(heading).count():
            before = self.text(".example h3")
            self.page.click("#next")
            self.page.wait_for_function("(h) => document.querySelector('.example h3').innerText !== h", arg=before)

    def fates(self, place: int = 0) -> list[str]:
        """Return what became of each piece of the example in view."""
        script = """(maps, place) => [...maps[place].querySelectorAll("[data-piece]")].map(
            (piece) => piece.classList[0])"""
        return self.page.eval_on_selector_all(".tokens", script, place)
