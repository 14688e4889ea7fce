r"""Take the pictures of the report page that README and docs show.

    python scripts/page_images.py RUN ARM OTHER EXAMPLE

RUN is a finished run, ARM and OTHER two of its arms, EXAMPLE the number of an example that its page shows. Needs
Playwright and a Chromium (`playwright install chromium`, or the system's). The pictures in the repository are of

    python benchmarks/quality/pools.py ../shared --output runs/german \
      --noise german --share 0.44 --rows 400 --held-out 160
    tokensieve run src/tokensieve/recipes/span-ratio.yaml output=runs/german-in-alpaca data=runs/german/pool.jsonl \
      'models.reference.warm_up={files: [runs/german/reference_150_clean.jsonl], train: {num_train_epochs: 3}}' \
      models.base=../shared/models/english-3M 'controls=[full, random, marked]' data.max_length=256 \
      evaluate.held_out=runs/german/held_out.jsonl train.lora=null train.learning_rate=5e-4 \
      train.per_device_train_batch_size=16 train.gradient_accumulation_steps=1 train.gradient_checkpointing=false
    python scripts/page_images.py runs/german-in-alpaca span-ratio marked 355
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
