"""How fast the page is in a real browser."""

from __future__ import annotations

from browser_tabs import Tab

from tokensieve.report.html.page import Report

MOVES = """async (settings) => {
  const slider = document.getElementById("ratio"), took = [];
  const painted = () => new Promise((done) => requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = done;
    port2.postMessage(null);
  }));
  for (const setting of settings) {
    await painted();
    await new Promise((done) => setTimeout(done, 20));
    slider.value = setting;
    const start = performance.now();
    slider.dispatchEvent(new Event("input"));
    await painted();
    took.push(performance.now() - start);
  }
  return took.sort((a, b) => a - b);
}"""
STEPS = list(range(5, 85, 4))
JUMPS = [0, 99] * 5  # every token changes

EXAMPLES = 500


def test_a_large_page_is_quick(make_large, browser, tmp_path, capsys):
    path = tmp_path / "large.html"
    path.write_text(Report(make_large(examples=EXAMPLES, tokens=1000), EXAMPLES).render(), encoding="utf-8")
    tab = Tab(browser, path.as_uri(), hash="examples")
    tab.page.wait_for_selector(".tokens")
    opened = tab.page.evaluate("performance.now()")
    quick: list[float] = []
    figures = {"MB": path.stat().st_size / 1e6, "open ms": opened}
    for view in ("examples", "selection"):
        tab.page.evaluate(f"location.hash = '{view}'")
        tab.page.wait_for_timeout(300)
        took = tab.page.evaluate(MOVES, STEPS)
        quick.append(took[len(took) // 4])
        figures |= {f"slider {view} ms, median": took[len(took) // 2], f"slider {view} ms, slowest": took[-1]}
    tab.page.close()
    with capsys.disabled():
        print("\n" + ", ".join(f"{name} {value:.1f}" for name, value in figures.items()))
    assert tab.said == []
    assert opened < 2000
    # Quicker ones say what the page takes; slower ones what else this machine does.
    in_examples, in_selection = quick
    assert in_examples < 50
    assert in_selection < 150


def test_the_slider_is_quick_over_a_long_example_under_two_methods(make_large, browser, tmp_path, capsys):
    path = tmp_path / "long.html"
    path.write_text(Report(make_large(examples=2, tokens=6000), 2).render(), encoding="utf-8")
    tab = Tab(browser, path.as_uri(), hash="examples?other=random")
    tab.page.wait_for_selector(".maps.two .tokens")
    tab.page.wait_for_timeout(500)
    took = tab.page.evaluate(MOVES, STEPS)
    jumps = tab.page.evaluate(MOVES, JUMPS)
    with capsys.disabled():
        print(f"\n6,000 tokens, two maps: median {took[10]:.1f} ms, slowest {took[-1]:.1f}, all tokens {jumps[5]:.1f}")
    assert tab.said == []
    tab.page.close()
    assert took[5] < 50  # slower ones say what else this machine does
    assert jumps[2] < 100
