"""report.html in a real browser: every link and choice works without a network, and the console stays empty.

Needs Chromium and its driver (Debian: chromium, chromium-driver; `bash tests/run.sh --all --with-browser`).
"""

import json
import shutil

import numpy as np
import pytest
from make_grid import make_run
from test_report import HOSTILE, with_corpus, write_page  # noqa: F401

webdriver = pytest.importorskip("selenium.webdriver")
keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
select = pytest.importorskip("selenium.webdriver.support.ui").Select
PROGRAMS = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not all(PROGRAMS.values()), reason="no Chromium: --with-browser")]

LANGS = ["en", "fi", "fr", "sv"]
SHOWN = "[...document.querySelectorAll('article')].filter((a) => a.offsetParent).map((a) => a.id)"


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = PROGRAMS["chromium"]
    for option in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1280,900"):
        options.add_argument(f"--{option}")
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.chrome.service.Service(PROGRAMS["chromedriver"]))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Two models on en, fi and both, on four languages with random predictions: language of the page -> its file."""
    folder = tmp_path_factory.mktemp("grid")
    rng = np.random.default_rng(0)
    for model in ("xlmr", "mbert"):
        for mix in ("en", "fi", "en-fi"):
            make_run(folder / "outputs" / f"{model}-{mix}", model, mix, LANGS, 100, rng)
    paths = {lang: folder / f"{lang}.html" for lang in ("en", "fr")}
    for lang, path in paths.items():
        write_page(path, folder / "outputs", lang=lang)
    return paths


def show(browser, path, anchor=""):
    browser.get("about:blank")
    browser.get(path.as_uri() + anchor)


def js(browser, code, *arguments):
    return browser.execute_script(f"return {code}", *arguments)


def check_quiet(browser):
    """Nothing on the console, and nothing asked of a network."""
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert {url.split(":")[0] for url in asked} <= {"file", "about", "data"}


def test_a_link_displays_its_evaluation_alone_and_back_the_cell(browser, pages):
    show(browser, pages["en"])
    assert js(browser, SHOWN) == [] and browser.find_element("id", "matrices").is_displayed()
    browser.find_element("css selector", ".panel a[href='#xlmr-en/fi']").click()
    assert js(browser, SHOWN) == ["xlmr-en/fi"] and not browser.find_element("id", "matrices").is_displayed()
    assert js(browser, "document.title").startswith("xlmr-en on fi – ")
    browser.find_element("css selector", "article:target .confusion td a").click()
    assert js(browser, SHOWN) == ["xlmr-en/fi"]
    assert js(browser, "document.querySelector(':target').tagName") == "DT"
    assert js(browser, "Math.abs(document.querySelector(':target').getBoundingClientRect().top) < innerHeight")
    browser.find_element("css selector", "article:has(:target) a[href^='#at']").click()
    assert js(browser, SHOWN) == [] and js(browser, "document.activeElement.getAttribute('href')") == "#xlmr-en/fi"
    for anchor, expected in (("#mbert-fi/sv", ["mbert-fi/sv"]), ("#xlmr-en/xx", []), ("#%E0%A4%A", []), ("#", [])):
        show(browser, pages["en"], anchor)
        assert js(browser, SHOWN) == expected
    check_quiet(browser)


def test_the_choices(browser, pages):
    show(browser, pages["en"])
    panels = "[...document.querySelectorAll('.panel:not([hidden]) caption')].map((caption) => caption.textContent)"
    assert len(js(browser, panels)) == 4
    select(browser.find_element("css selector", "[data-choice=model]")).select_by_visible_text("xlmr")
    select(browser.find_element("css selector", "[data-choice=metric]")).select_by_index(2)
    assert js(browser, panels) == ["xlmr, accuracy (micro-F1), × 100"]
    order = "[...document.querySelectorAll('.panel:not([hidden]) tbody th')].map((th) => th.textContent)"
    means = "[...document.querySelectorAll('.panel:not([hidden]) tbody tr')].map((tr) => Number(tr.dataset.mean))"
    assert js(browser, order) == ["en", "fi", "en-fi"]
    browser.find_element("id", "sort").click()
    assert js(browser, means) == sorted(js(browser, means), reverse=True) and 0 not in js(browser, means)
    browser.find_element("id", "sort").click()
    assert js(browser, order) == ["en", "fi", "en-fi"]
    cells = "[...document.querySelectorAll('.panel:not([hidden]) tbody td a')].filter((a) => a.offsetParent).length"
    assert js(browser, cells) == 12
    browser.find_element("id", "zero-shot").click()
    assert js(browser, cells) == 6
    browser.execute_script("location.hash = '#at?mbert-en/fr'")
    assert "mbert, macro-F1, registers of ≥ 10 texts, × 100" in js(browser, panels)
    check_quiet(browser)


def test_hostile_names_and_texts_do_nothing(browser, with_corpus, tmp_path):  # noqa: F811
    folder = with_corpus.parent / "<img src=x onerror=alert(1)> & 'é' ?#%" / "tiny-fr"
    folder.parent.mkdir()
    shutil.copytree(with_corpus, folder)
    write_page(tmp_path / "r.html", with_corpus.parent, n_texts=20)
    show(browser, tmp_path / "r.html")
    browser.find_elements("css selector", ".panel a[href*='%3Cimg']")[0].click()
    assert len(js(browser, SHOWN)) == 1
    assert HOSTILE in js(browser, "document.querySelector('article:target').textContent")
    assert js(browser, "document.querySelectorAll('img').length") == 0
    assert js(browser, "document.querySelectorAll('script').length") == 1
    check_quiet(browser)
