"""report.html in a real browser: every link and choice works without a network, and the console stays empty.

Needs Chromium and its driver (Debian: chromium, chromium-driver; `bash tests/run.sh --with-browser` installs them).
"""

import json
import shutil
import time
from urllib.parse import quote

import numpy as np
import pytest
from make_grid import make_run
from test_report import HOSTILE, found_in, with_corpus  # noqa: F401

import post_eval

webdriver = pytest.importorskip("selenium.webdriver")
keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
PROGRAMS = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
pytestmark = pytest.mark.skipif(not all(PROGRAMS.values()), reason="no Chromium: bash tests/run.sh --with-browser")

LANGS = ["en", "fi", "fr", "sv"]
WAIT = 20  # seconds


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = PROGRAMS["chromium"]
    for option in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1280,900"):
        options.add_argument(f"--{option}")
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.chrome.service.Service(PROGRAMS["chromedriver"])
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Two models on en, fi and both, evaluated on four languages with random predictions."""
    base_dir = tmp_path_factory.mktemp("grid") / "outputs"
    rng = np.random.default_rng(0)
    for model in ("xlmr", "mbert"):
        for mix in ("en", "fi", "en-fi"):
            make_run(base_dir / f"{model}-{mix}", model, mix, LANGS, 100, rng)
    return base_dir


def show(browser, base_dir, *options, anchor=""):
    """Write the report of a base dir and open it."""
    assert post_eval.main(["--base-dir", str(base_dir), "--ignore-cfm", "--ignore-tve", *options]) == 0
    browser.get("about:blank")
    browser.get((base_dir / "report.html").as_uri() + anchor)


def js(browser, code, *arguments):
    return browser.execute_script(f"return {code}", *arguments)


def wait_for(browser, code, *arguments):
    end = time.monotonic() + WAIT
    while not (found := js(browser, code, *arguments)):
        assert time.monotonic() < end, code
        time.sleep(0.02)
    return found


def check_quiet(browser):
    """Nothing on the console, and nothing asked of a network."""
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert {url.split(":")[0] for url in asked} <= {"file", "about", "data"}


def test_every_link_leads_to_something(browser, grid):
    show(browser, grid)
    links = set(js(browser, "[...document.querySelectorAll('a')].map((a) => a.getAttribute('href'))"))
    assert len(links) == 5 + 6 * 4 and all(link.startswith("#") for link in links)
    seen, waiting = set(), sorted(links)
    while waiting:
        link = waiting.pop()
        seen.add(link)
        browser.execute_script("location.hash = arguments[0]", link)
        if "/" not in link:
            assert js(browser, "document.getElementById(arguments[0]) !== null", link[1:])
            continue
        place = link.split("?")[0].split("/")[-1]
        wait_for(browser, "document.querySelector('#evaluation h2')?.textContent.includes(arguments[0])", f"({place})")
        inside = js(browser, "[...document.querySelectorAll('#evaluation a')].map((a) => a.getAttribute('href'))")
        assert inside
        if "?" not in link:  # the texts of a cell: those of one evaluation are enough
            new = [i for i in inside if i not in seen and i not in waiting and ("?" not in i or "xlmr-en/fi?" in i)]
            waiting += new
    assert sum("?" in link for link in seen) > 20
    check_quiet(browser)


def test_from_a_cell_to_the_texts_of_a_cell_and_back(browser, with_corpus):  # noqa: F811
    show(browser, with_corpus.parent, "--report-texts", "3")
    link = browser.find_element("css selector", ".panel:not([data-metric=macro_f1_10]) tbody td a")
    link.click()
    wait_for(browser, "!document.getElementById('evaluation').hidden && document.getElementById('overview').hidden")
    rows = "[...document.querySelectorAll('#errors tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))"
    shown = js(browser, rows)
    assert [row[3] for row in shown] == [str(row) for row in range(20, 10, -1)]  # the first ten
    assert shown[0][:3] == ["0.7000", "IN", "LY"] and shown[0][4].startswith("text number 20")
    browser.find_element("css selector", "#errors button").click()
    assert len(js(browser, rows)) == 20
    browser.find_element("css selector", ".confusion td a").click()  # IN as OP
    wait_for(browser, "location.hash.endsWith('?IN/OP')")
    wait_for(browser, "document.querySelectorAll('#errors tbody tr').length === 10")
    assert {tuple(row[1:3]) for row in js(browser, rows)} == {("IN", "OP")}
    assert "12 texts" in js(browser, "document.querySelector('#errors caption').textContent")
    browser.back()
    browser.back()
    wait_for(browser, "document.getElementById('evaluation').hidden && !document.getElementById('overview').hidden")
    check_quiet(browser)


def test_a_link_to_a_cell_can_be_sent(browser, with_corpus):  # noqa: F811
    show(browser, with_corpus.parent, anchor="#tiny-fr/en?IN/LY")
    wait_for(browser, "document.querySelectorAll('#errors tbody tr').length === 8")
    for odd in ("#tiny-fr/xx", "#%E0%A4%A", "#tiny-fr/en?IN/<b>", "#tiny-fr/en?", "#/", "#tiny-fr/en?IN"):
        browser.execute_script("location.hash = arguments[0]", odd)
        known = odd.startswith("#tiny-fr/en?")
        wait_for(browser, "document.getElementById('evaluation').hidden !== arguments[0]", known)
    check_quiet(browser)


def test_the_choices(browser, grid):
    show(browser, grid)
    shown = "[...document.querySelectorAll('.panel:not([hidden]) caption')].map((caption) => caption.textContent)"
    assert len(js(browser, shown)) == 4
    select = pytest.importorskip("selenium.webdriver.support.ui").Select
    select(browser.find_element("css selector", "[data-choice=model]")).select_by_visible_text("xlmr")
    assert len(js(browser, shown)) == 2
    select(browser.find_element("css selector", "[data-choice=metric]")).select_by_index(2)
    assert js(browser, shown) == ["xlmr, accuracy (micro-F1)"]
    order = "[...document.querySelectorAll('.panel:not([hidden]) tbody th')].map((th) => th.textContent)"
    means = "[...document.querySelectorAll('.panel:not([hidden]) tbody tr')].map((tr) => Number(tr.dataset.mean))"
    assert js(browser, order) == ["en", "fi", "en-fi"]
    browser.find_element("id", "sort").click()
    assert js(browser, means) == sorted(js(browser, means), reverse=True) and set(js(browser, means)) != {0}
    browser.find_element("id", "sort").click()
    assert js(browser, order) == ["en", "fi", "en-fi"]
    links = "[...document.querySelectorAll('.panel:not([hidden]) tbody td a')]"
    visible = f"{links}.filter((a) => getComputedStyle(a).visibility === 'visible').length"
    assert js(browser, visible) == 12
    browser.find_element("id", "zero-shot").click()
    assert js(browser, visible) == 8
    check_quiet(browser)


def test_by_keyboard_alone(browser, grid):
    show(browser, grid)
    reached = set()
    for _ in range(60):
        browser.switch_to.active_element.send_keys(keys.TAB)
        tag, name = js(browser, "[document.activeElement.tagName, document.activeElement.className]")
        reached.add(name or tag)
        if js(browser, "Boolean(document.activeElement.closest('.panel td'))"):
            break
    assert {"skip", "A", "SELECT", "INPUT", "scroll"} <= reached
    outline = js(browser, "getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    first = js(browser, "document.activeElement.getAttribute('href')")
    browser.switch_to.active_element.send_keys(keys.ENTER)
    wait_for(browser, "document.activeElement.tagName === 'H2' && document.activeElement.closest('#evaluation')")
    browser.switch_to.active_element.send_keys(keys.SHIFT, keys.TAB)
    browser.switch_to.active_element.send_keys(keys.ENTER)
    wait_for(browser, "document.activeElement.getAttribute('href') === arguments[0]", first)
    check_quiet(browser)


def test_tables_are_tables(browser, grid):
    show(browser, grid, anchor="#xlmr-en/fi")
    wait_for(browser, "document.querySelector('#evaluation h2')")
    assert js(browser, "[...document.querySelectorAll('table')].filter((t) => !t.caption?.textContent)") == []
    assert js(browser, "[...document.querySelectorAll('th')].filter((th) => !th.scope).length") == 0
    assert js(browser, "document.documentElement.lang") == "en"
    assert js(browser, "document.title").startswith("en on Finnish (fi)")
    ids = js(browser, "[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("width", [360, 640])  # a phone; 1280 at 200 %
@pytest.mark.parametrize("labels", ["en", "fr"])
def test_narrow_pages_are_not_wider_than_the_screen(browser, grid, width, labels):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for anchor in ("", "#xlmr-en/fi"):
            show(browser, grid, "--labels", labels, anchor=anchor)
            assert js(browser, "document.documentElement.scrollWidth") <= width
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_without_script_the_matrices_and_registers_are_read(browser, grid):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(browser, grid)
        text = browser.find_element("tag name", "body").text
        assert "Without JavaScript" in text and "xlmr, accuracy (micro-F1)" in text and "mbert, accuracy" in text
        assert not browser.find_element("id", "choices").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_it_prints(browser, grid):
    show(browser, grid, anchor="#xlmr-en/fi")
    wait_for(browser, "document.querySelector('#evaluation h2')")
    assert len(browser.print_page()) > 10_000
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert not browser.find_element("tag name", "nav").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_hostile_names_and_texts_do_nothing(browser, with_corpus):  # noqa: F811
    name = "<img src=x onerror=alert(1)> & 'é' ?#%"
    folder = with_corpus.parent / name / "tiny-fr"
    folder.parent.mkdir()
    shutil.copytree(with_corpus, folder)
    show(browser, with_corpus.parent, "--report-texts", "20")
    link = f"#{quote(name, safe='')}/tiny-fr/en"
    browser.find_element("css selector", f"a[href={json.dumps(link)}]").click()
    wait_for(browser, "document.querySelector('#evaluation h2')")
    while (more := browser.find_element("css selector", "#errors button")).is_displayed():
        more.click()
    assert HOSTILE in js(browser, "document.getElementById('errors').textContent")
    assert js(browser, "document.querySelectorAll('img').length") == 0
    assert js(browser, "document.querySelectorAll('script').length") == 2
    assert len(found_in(with_corpus.parent)) == 2
    check_quiet(browser)


def test_the_policy_stops_what_would_get_through(browser, grid):
    show(browser, grid)
    browser.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.got = 1'; document.body.append(s);"
        "document.body.insertAdjacentHTML('beforeend', '<p id=styled style=\"color: red\">x</p>')"
    )
    assert js(browser, "window.got === undefined")
    assert js(browser, "getComputedStyle(document.getElementById('styled')).color") == "rgb(17, 17, 17)"
    said = " ".join(entry["message"] for entry in browser.get_log("browser"))
    assert said.count("Content Security Policy") >= 2
