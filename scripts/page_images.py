"""Take the pictures of the report page that README and docs show.

    python scripts/page_images.py RUN ARM OTHER EXAMPLE

RUN is a finished run, ARM and OTHER two of its arms, EXAMPLE the number of an example that its page shows. Needs
Playwright and a Chromium (`playwright install chromium`, or the system's).
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).parents[1] / "docs/images"


def main(run: Path, arm: str, other: str, example: int) -> None:
    """Open the page and write a picture of its first view, of the selection, of an example, and of a phone."""
    url = (run / "report.html").resolve().as_uri()
    with sync_playwright() as playwright:
        system = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=system, args=["--no-sandbox"])
        _picture(_open(browser.new_page(), url, 900), "page-overview.png")
        _picture(_open(browser.new_page(), f"{url}#selection?arm={arm}", 1010), "page-selection.png")
        phone = browser.new_page(color_scheme="dark")
        _picture(_open(phone, url, 844, 390), "page-phone.png")
        page = _open(browser.new_page(), f"{url}#examples?arm={arm}&other={other}&example={example}", 900)
        if not page.inner_text(".example h3").startswith(f"Example {example:,} "):
            raise SystemExit(f"the page of {run} does not show example {example}")
        page.locator(".tokens .turn:not(.asked) span.differs").first.hover()
        _picture(page, "page-examples.png")
        browser.close()


def _open(page: Page, url: str, height: int, width: int = 1440) -> Page:
    page.set_viewport_size({"width": width, "height": height})
    page.goto(url)
    page.wait_for_selector("body.ready")
    page.wait_for_timeout(500)  # charts below the fold are drawn when idle
    return page


def _picture(page: Page, name: str) -> None:
    page.screenshot(path=IMAGES / name)
    print(IMAGES / name)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        raise SystemExit((__doc__ or "").strip())
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
