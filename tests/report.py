"""Checks of what guard shows: the page of `guard log --report` in a browser, and its words on a terminal."""

import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import traceback
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

GUARD = Path(sys.argv[1]).resolve()
WORK = Path(tempfile.mkdtemp(prefix="report-"))
# Runs in whatever takes it for more than text.
HOSTILE = '</script><img src=x onerror="document.title=1;alert(1)"><!--\x1b[31m'
TITLE = "Module requests: modprobe-guard"

# Name, unit, executable, user, action, enforced, rule; a record of the i-th second is of the i-th kind.
KINDS = [
    ("iptable_nat", "ssh.service", "/usr/sbin/iptables", 0, "block", True, "no-conntrack"),
    ("iptable_nat", "docker.service", "/usr/bin/dockerd", 0, "allow-sysctl", True, "docker-nat"),
    ("net-pf-38", "user@1000.service", "/usr/bin/python3", 1000, "block", False, "rare-sockets"),
    ("fs-vfat", "udisks2.service", "/usr/libexec/udisksd", 0, "allow", True, None),
]
THINNED = 35


def record(second, name, unit, exe, uid, action, enforced, rule, **more):
    time = f"2026-11-{20 + second // 86400:02}T{second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}.000000Z"
    sized = [{"key": "net.netfilter.nf_conntrack_max", "before": 65536, "after": 262144}]
    requester = {"confidence": "exact", "found_by": "recorder", "pid": 101, "tid": 101, "comm": "iptables", "exe": exe,
                 "cmdline": ["iptables", "-L", f"secret{second}"], "uid": uid, "unit": unit, "parents": []}
    outcome = {"status": int(action == "block" and enforced), "duration_us": 412, "loaded": [],
               "sysctl": sized if action == "allow-sysctl" else []}
    return {"v": 1, "time": time, "host": "r1", "request": {"name": name, "caller": "kernel"},
            "requester": {**requester, **more}, "outcome": outcome, "modules": [],
            "verdict": {"action": action, "enforced": enforced, "rule": rule, "source": "/etc/p:14", "module": None}}


def write(name, records):
    path = WORK / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def records(count=40, step=60):
    every = [record(at * step, *KINDS[at % len(KINDS)]) for at in range(count)]
    hostile = HOSTILE.replace("\x1b", "\\x1b")
    last = record(count * step, hostile, hostile, "/" + hostile, 7, "block", True, HOSTILE, comm=hostile, cmdline=[hostile])
    last["outcome"]["sysctl"] = [{"key": HOSTILE, "before": hostile, "after": 1, "error": HOSTILE}]
    last["failures"] = [HOSTILE]
    counted = {"v": 1, "time": last["time"], "thinned": THINNED, "since": every[-1]["time"], "kind": "1f", "one_name": True,
               "request": {"name": "net-pf-9", "caller": "kernel"}, "verdict": every[0]["verdict"],
               "requester": {"uid": 7, "unit": "ssh.service"}}
    return [*every, last, counted]


def guard(*arguments, status=0):
    ran = subprocess.run([GUARD, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == status, (arguments, ran.returncode, ran.stderr)
    return ran


def browser(*flags):
    options = webdriver.ChromeOptions()
    profile = tempfile.mkdtemp(dir=WORK)
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync",
                 f"--user-data-dir={profile}", "--window-size=1200,900", *flags):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)


class Page:
    """A report, open in a browser of its own."""

    def __init__(self, *arguments):
        self.path = WORK / "page.html"
        guard(*arguments, "--report", self.path)
        self.driver = browser()
        # The browser's own first page asks for much.
        self.driver.get("about:blank")
        self.driver.get_log("performance")
        self.driver.get(self.path.as_uri())
        self.data = json.loads(self.run('return document.getElementById("data").textContent'))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.driver.quit()

    def run(self, script):
        return self.driver.execute_script(script)

    def id(self, name):
        return self.driver.find_element(By.ID, name)

    def shown(self, table="rows"):
        return self.run(f'return [...document.querySelectorAll("#{table} tbody tr")].filter((row) => row.checkVisibility()).length')

    def verdict(self, word):
        self.driver.find_element(By.CSS_SELECTOR, f'#verdicts [data-verdict="{word}"]').click()

    def media(self, **features):
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items() if name != "media"]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def colour(self):
        return self.run("return getComputedStyle(document.body).backgroundColor")


# --- the page -------------------------------------------------------------------------------------------------------

def filters_choose_rows_and_groups():
    with Page("log", write("r", records())) as page:
        assert page.shown() == 42 and page.shown("groups") == 6, (page.shown(), page.shown("groups"))
        page.verdict("block")
        # Ten of the first kind, the hostile one, the count.
        assert page.shown() == 12 and page.shown("groups") == 3
        assert page.id("groups-about").text == "3 of 6 groups, 46 requests", page.id("groups-about").text
        page.verdict("would-block")
        assert page.shown() == 22
        page.verdict("block")
        assert page.shown() == 10
        page.id("clear").click()
        assert page.shown() == 42
        Select(page.id("rule")).select_by_value("docker-nat")
        assert page.shown() == 10 and page.shown("groups") == 1
        page.id("clear").click()
        # All words have to be there, wherever, in whatever case; a command line is found too.
        page.id("search").send_keys("PYTHON3 net-pf")
        assert page.shown() == 10 and page.id("rows-about").text.startswith("10 of 42 records")
        page.id("clear").click()
        page.id("search").send_keys("secret60")
        assert page.shown() == 2, "of the seconds 60 and 600"
        page.id("search").send_keys("x")
        assert page.shown() == 0 and page.shown("groups") == 0


def hosts_of_a_fleet_are_told_apart():
    every = records()
    for at, one in enumerate(every):
        # Of the first kind, which are blocked, six are of the one host and four of the other.
        if "host" in one:
            one["host"] = "edge2" if at % 8 == 0 and at < 32 else "edge1"
    with Page("log", write("fleet", every)) as page:
        host = Select(page.id("host"))
        assert [option.text for option in host.options] == ["any", "edge1", "edge2"]
        first = '#groups tbody tr:not([hidden]) td'
        cells = lambda: [cell.text for cell in page.driver.find_elements(By.CSS_SELECTOR, first)][:8]
        host.select_by_visible_text("edge2")
        assert page.shown() == 4 and page.shown("groups") == 1, (page.shown(), page.shown("groups"))
        assert page.id("groups-about").text == "1 of 6 groups, 4 requests", page.id("groups-about").text
        assert page.id("rows-about").text.endswith("tells no host"), page.id("rows-about").text
        # Numbers and times are those of the host.
        assert cells()[0] == "4" and cells()[6:] == ["2026-11-20 00:00:00", "2026-11-20 00:24:00"], cells()
        host.select_by_visible_text("edge1")
        # The hostile one is of that host too; a count tells none.
        assert page.shown() == 37 and page.shown("groups") == 5, (page.shown(), page.shown("groups"))
        page.verdict("block")
        assert page.shown() == 7
        page.id("clear").click()
        assert page.shown() == 42 and page.id("groups-about").text == "6 of 6 groups, 76 requests", page.id("groups-about").text
        assert host.first_selected_option.text == "any" and cells()[0] == "35", cells()
    with Page("log", write("r", records())) as page:
        assert not page.driver.find_elements(By.ID, "host"), "there is one host"


def charts_tell_and_choose():
    with Page("log", write("r", records())) as page:
        counts = [sum(bar["counts"][at] for bar in page.data["bars"]) for at in range(4)]
        assert counts == page.data["counts"] == [46, 10, 10, 10], counts
        drawn = page.run('return [...document.querySelectorAll("#timeline [data-series]")].map((bar) => [bar.dataset.series, Number(bar.dataset.value)])')
        assert sum(value for series, value in drawn if series == "block") == 46, drawn
        assert page.run('return document.querySelector("#flows").textContent').count("docker.service") == 3, "label, its title, and that of a link"
        page.run('[...document.querySelectorAll("#flows text")].find((text) => text.textContent.startsWith("docker.service"))'
                 '.dispatchEvent(new Event("click"))')
        assert page.shown() == 10
        page.driver.find_element(By.CSS_SELECTOR, "#chosen button").click()
        assert page.shown() == 42
        page.run('document.querySelector("#timeline [data-series=allow]").dispatchEvent(new Event("click"))')
        assert 0 < page.shown() < 42
        assert page.run('return document.querySelectorAll("#timeline .is-faint").length') > 0


def hostile_text_is_text():
    with Page("log", write("r", records())) as page:
        shown = HOSTILE.replace("\x1b", "\\x1b")
        # A dialog would make every call fail.
        assert page.driver.title == TITLE
        assert page.run("return document.images.length + document.scripts.length") == 2
        cells = page.run('return [...document.querySelectorAll("#rows td")].map((cell) => cell.textContent)')
        assert shown in cells and any(f"/{shown}" in cell for cell in cells), cells[:8]
        assert shown in page.run('return document.getElementById("changes").textContent')
        assert "onerror" in page.run('return document.getElementById("flows").textContent')
        # Only the data's element holds what somebody else chose: with other names, in the same order, the markup is the same.
        markup = re.compile(r'(?s)<script type="application/json" id="data">.*?</script>')
        bare, found = markup.subn("", page.path.read_text())
        plain = records()
        plain[-2] = record(40 * 60, "<x", "<y", "/z", 7, "block", True, "<w")
        plain[-2]["outcome"]["sysctl"] = [{"key": "a", "before": 0, "after": 1}]
        guard("log", write("plain", plain), "--report", WORK / "plain.html")
        assert found == 1 and bare == markup.sub("", (WORK / "plain.html").read_text())


def nothing_leaves_the_page_and_nothing_else_runs():
    with Page("log", write("r", records())) as page:
        assert page.run('return performance.getEntriesByType("resource").length') == 0
        messages = [json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")]
        asked = {message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"}
        assert asked == {page.path.as_uri()}, asked
        errors = [entry for entry in page.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
        assert errors == [], errors
        page.run('const script = document.createElement("script"); script.textContent = "document.title = 2"; document.body.append(script)')
        page.run('const div = document.createElement("div"); div.innerHTML = "<img src=x onerror=\'document.title = 3\'>"; document.body.append(div)')
        page.run('fetch("https://127.0.0.1:9/").catch(() => {})')
        assert page.driver.title == TITLE
        refused = " ".join(entry["message"] for entry in page.driver.get_log("browser"))
        for directive in ("script-src", "img-src", "connect-src"):
            assert directive in refused or "default-src" in refused, (directive, refused)


def light_dark_and_paper():
    with Page("log", write("r", records())) as page:
        page.media(prefers_color_scheme="light")
        light = page.colour()
        page.media(prefers_color_scheme="dark")
        dark = page.colour()
        assert light != dark
        page.id("theme").click()
        assert page.colour() == light and page.id("theme").get_attribute("aria-pressed") == "false"
        page.id("theme").click()
        assert page.colour() == dark and page.id("theme").get_attribute("aria-pressed") == "true"
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        assert not page.id("filter").is_displayed() and not page.id("theme").is_displayed()
        assert page.id("rows").is_displayed() and page.id("flows").is_displayed()
        assert page.run("return getComputedStyle(document.documentElement).colorScheme") == "light"


def contrast(one, other):
    def luminance(colour):
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def everybody_can_read_it():
    with Page("log", write("r", records())) as page:
        assert page.run("return document.documentElement.lang") == "en"
        for scheme in ("light", "dark"):
            page.media(prefers_color_scheme=scheme)
            sheet = page.run('return getComputedStyle(document.querySelector("section")).backgroundColor')
            for selector in ("td", "th", ".about", ".quiet", ".verdict.block", ".verdict.would-block", ".verdict.allow-sysctl", ".verdict.allow"):
                text = page.run(f'return getComputedStyle(document.querySelector("{selector}")).color')
                assert contrast(text, sheet) >= 4.5, (scheme, selector, text, sheet)
        # Every control has a name; every chart has one that says what it shows; cells have heads.
        for element in page.driver.find_elements(By.CSS_SELECTOR, "button, input, select, .chart, [role=region]"):
            assert element.accessible_name, element.get_attribute("outerHTML")[:80]
        assert all(head.get_attribute("scope") == "col" for head in page.driver.find_elements(By.CSS_SELECTOR, "th"))
        # With the keyboard alone: to the search, then to a verdict.
        page.id("search").send_keys("\t\t ")
        assert page.shown() == 12, page.shown()
        # On a phone nothing but tables and charts is wider than the screen, and those scroll by themselves.
        page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True})
        assert page.run("return document.documentElement.scrollWidth") <= 360


def great_logs_are_summed_up():
    count = 100_000
    path = write("great", (record(at, *KINDS[at % len(KINDS)][:2], f"/bin/n{at % 900}", at % 900, *KINDS[at % len(KINDS)][4:]) for at in range(count)))
    with Page("log", path) as page:
        assert page.path.stat().st_size < 3 << 20, page.path.stat().st_size
        assert page.shown() == 2000 and page.shown("groups") == 500
        assert "98\u202f000 earlier ones left out" in page.id("rows-about").text, page.id("rows-about").text
        left = page.data["groups_left_requests"]
        assert sum(group["count"] for group in page.data["groups"]) + left == count and left > 0
        assert f"{page.data['groups_left']} groups with" in page.id("groups-about").text.replace("\u202f", "")
        assert sum(sum(bar["counts"]) for bar in page.data["bars"]) == count and len(page.data["bars"]) <= 60
        page.verdict("allow")
        assert page.shown() == 500


def the_table_is_that_of_the_host():
    root = WORK / "root"
    for name, value in (("count", 900), ("max", 1000)):
        path = root / f"proc/sys/net/netfilter/nf_conntrack_{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    logs = root / "var/log/modprobe-guard"
    logs.mkdir(parents=True)
    write("r", records()).rename(logs / "audit.jsonl")
    with Page("--root", root, "log") as page:
        assert page.id("table-about").text.startswith("900 of 1\u202f000 connections, 90 % full"), page.id("table-about").text
        assert page.run('const { value, max } = document.getElementById("fill"); return [value, max]') == [900, 1000]
        assert page.id("fill").is_displayed() and len(page.data["changes"]) == 11
    # Of files nobody knows whose table it would be.
    with Page("log", logs / "audit.jsonl") as page:
        assert "do not tell" in page.id("table-about").text and not page.id("fill").is_displayed()


def same_records_same_bytes():
    path = write("r", records())
    pages = [WORK / "one.html", WORK / "two.html"]
    for page in pages:
        guard("log", path, "--report", page)
    texts = [page.read_text() for page in pages]
    assert texts[0] == texts[1] == guard("log", path, "--report", "-").stdout
    assert pages[0].stat().st_mode & 0o7777 == 0o640
    # Filters are those of the lines; what they leave out without judging it, the page says.
    guard("log", path, "--unit", "docker.*", "--exe", "/usr/bin/dockerd", "--report", pages[0])
    data = json.loads(re.search(r'(?s)id="data">(.*?)</script>', pages[0].read_text())[1])
    assert data["requests"] == 10 and "--unit" in data["filters"][0]
    guard("log", write("none", []), "--report", pages[0])
    assert '"requests":0' in pages[0].read_text()


def what_cannot_be_written_is_said():
    path = write("r", records())
    pipe = WORK / "pipe"
    os.mkfifo(pipe)
    for target, words in (("/no/such/directory/x", "give a file in a directory"), (pipe, "is no file"), (WORK, "is no file"), ("/", "is no name")):
        errors = guard("log", path, "--report", target, status=1).stderr
        assert f"guard: {target}: " in errors and words in errors, errors
    assert pipe.is_fifo()
    for option in ("--summary", "--follow", "--flush", "--json"):
        assert "cannot be used with" in guard("log", "--report", WORK / "never", option, status=2).stderr
    assert not (WORK / "never").exists()
    # What was there stays, whole, where the new one does not fit.
    kept = WORK / "kept.html"
    kept.write_text("before")
    limited = ["/bin/bash", "-c", 'ulimit -f 8; trap "" XFSZ; exec "$0" "$@"', GUARD, "log", path, "--report", kept]
    assert subprocess.run(limited, capture_output=True, check=False).returncode == 1
    assert kept.read_text() == "before" and not list(WORK.glob(".kept.html*"))


# --- a terminal ------------------------------------------------------------------------------------------------------

def on_terminal(columns, *arguments, **environment):
    """What guard writes to a terminal of so many columns, as text, with lines ending as everywhere."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", **environment}
    child = subprocess.Popen([GUARD, *arguments], stdin=subprocess.DEVNULL, stdout=follower, stderr=subprocess.DEVNULL, env=environment)
    os.close(follower)
    said = b""
    # Reading fails once nobody has the other end any more.
    try:
        while some := os.read(leader, 65536):
            said += some
    except OSError:
        pass
    child.wait()
    os.close(leader)
    return said.decode().replace("\r\n", "\n")


CASE = Path(__file__).parent / "cases/02-no-conntrack/root"
# Blocked by its own name, whatever of an index there is.
DRY_RUN = ["--root", CASE, "--policy", Path(__file__).parent.parent / "conf/profiles/no-conntrack.toml", "--dry-run", "nf_conntrack"]
ESCAPE = re.compile("\x1b\\[[0-9;]*m")


def colours_are_for_terminals():
    # Names that no column for a pipe is too narrow for.
    path = write("tame", records()[:40])
    root = WORK / "bare"
    (root / "proc/sys/kernel").mkdir(parents=True, exist_ok=True)
    for arguments in (["log", path], ["log", path, "--summary"], ["--root", root, "status"], DRY_RUN):
        ran = subprocess.run([GUARD, *arguments], capture_output=True, text=True, check=False, env={"CLICOLOR_FORCE": "1", "TERM": "xterm"})
        assert ran.stdout and "\x1b" not in ran.stdout, arguments
        colourful = on_terminal(300, *arguments)
        for against in ({"NO_COLOR": "1"}, {"CLICOLOR": "0"}, {"TERM": "dumb"}):
            plain = on_terminal(300, *arguments, **against)
            assert "\x1b" not in plain and ESCAPE.sub("", colourful) == plain, (arguments, against)
        if "status" not in arguments:
            assert plain == ran.stdout, arguments
    assert "\x1b[1m\x1b[31m\u25cf NOT ARMED\x1b[0m\n" in on_terminal(80, "--root", root, "status")
    assert "\x1b[1m\x1b[31mBLOCK" in on_terminal(80, "log", path) and "\x1b[33m(block)" in on_terminal(80, "log", path)
    assert "nf_conntrack: \x1b[1m\x1b[31mBLOCKED\x1b[0m\n" in on_terminal(80, *DRY_RUN)


def no_escapes_but_our_own():
    # What others chose can hold escapes in a file, raw and in the form that records have.
    chosen = "\x1b[32mallow\x1b[0m\x1b]0;title\x07"
    form = chosen.replace("\x1b", "\\x1b").replace("\x07", "\\x07")
    one = record(0, form, form, "/" + form, 0, "block", True, chosen, comm=form)
    one["failures"] = [chosen]
    path = write("escapes", [one])
    for arguments in (["log", path], ["log", path, "--summary"]):
        said = on_terminal(300, *arguments)
        assert set(ESCAPE.findall(said)) <= {"\x1b[1m", "\x1b[31m", "\x1b[0m", "\x1b[2m"}, said
        assert "\x1b" not in ESCAPE.sub("", said) and "\x07" not in said and "\\x1b[32mallow" in said, said


def lines_are_as_wide_as_the_terminal():
    path = write("r", [*records(), record(9, "crypto-" + "x" * 60, "a" * 60 + ".service", "/x", 4294967295, "block", True, "r" * 60)])
    root = WORK / "bare"
    for columns in (40, 60, 80, 100, 132):
        for arguments in (["log", path, "--summary"], ["--root", root, "status"]):
            lines = ESCAPE.sub("", on_terminal(columns, *arguments)).splitlines()
            assert len(lines) > 4 and all(len(line) <= columns for line in lines), (columns, lines)
        head, *rows = ESCAPE.sub("", on_terminal(columns, "log", path, "--summary")).splitlines()
        for name in ("VERDICT", "REQUEST", "WHO"):
            at = head.index(name)
            assert all(row[at - 1] == " " and row[at] != " " for row in rows), (columns, name, rows)
        assert ("FIRST" in head, "LAST" in head) == (columns >= 132, columns >= 100), (columns, head)
        # Labels stand in a column of their own, whatever was wrapped.
        for line in ESCAPE.sub("", on_terminal(columns, "--root", root, "status")).splitlines()[1:]:
            assert re.match(r"  [a-z ]{8} \S", line), (columns, line)


def main():
    checks = [value for name, value in globals().items() if callable(value) and value.__module__ == "__main__" and name in CHECKS]
    wanted = sys.argv[2:]
    passed = failed = 0
    for check in checks:
        if wanted and check.__name__ not in wanted:
            continue
        try:
            check()
            passed += 1
            print(f"ok      {check.__name__}")
        except Exception:
            failed += 1
            traceback.print_exc(file=sys.stdout)
            print(f"FAILED  {check.__name__}")
    print(f"{passed} passed, {failed} failed")
    return failed > 0 or passed == 0


CHECKS = [
    "filters_choose_rows_and_groups",
    "hosts_of_a_fleet_are_told_apart",
    "charts_tell_and_choose",
    "hostile_text_is_text",
    "nothing_leaves_the_page_and_nothing_else_runs",
    "light_dark_and_paper",
    "everybody_can_read_it",
    "great_logs_are_summed_up",
    "the_table_is_that_of_the_host",
    "same_records_same_bytes",
    "what_cannot_be_written_is_said",
    "colours_are_for_terminals",
    "no_escapes_but_our_own",
    "lines_are_as_wide_as_the_terminal",
]

if __name__ == "__main__":
    try:
        status = main()
    finally:
        shutil.rmtree(WORK)
    sys.exit(status)
