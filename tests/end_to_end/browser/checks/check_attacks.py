"""What another page in the same browser tries, and our server refuses."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from pages import REBOUND, URL, until
from playwright.sync_api import Page

PORT = URL.rsplit(":", 1)[-1]
FORM = f"""
<link rel="icon" href="data:,">
<form method="post" action="{URL}/v1/completions" enctype="text/plain">
<input name='{{"prompt": "fox", "a": "' value='"}}'><button>A game!</button></form>
"""
# As a script would; text/plain needs no preflight.
FETCH = """
([url, type]) => fetch(url, {method: "POST", headers: {"Content-Type": type}, body: '{"prompt": "fox"}'})
    .then(reply => reply.text(), error => error.name)
"""

# For these the browser sends no Origin.
EMBED = """
([kind, url]) => kind === "fetch" ? fetch(url, {mode: "no-cors"}).then(() => null) : new Promise(done => {
    const element = document.createElement(kind)
    element.onload = element.onerror = () => done(null)
    element.src = url
    document.body.append(element)
})
"""


class Evil(BaseHTTPRequestHandler):
    """A page with a form that posts to our server."""

    def do_GET(self) -> None:
        body = FORM.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture(scope="module")
def evil() -> Iterator[str]:
    """Another site: its name is a loopback one, so that only our server can refuse it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Evil)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://evil.localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


def statuses(page: Page) -> list[int]:
    """The statuses of what the page is answered from now on, also of what the browser hides from it."""
    seen: list[int] = []
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.responseReceivedExtraInfo", lambda event: seen.append(event["statusCode"]))
    return seen


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/v1/completions", "text/plain"), ("/v1/edgewise/generate", "application/json")],
)
def test_a_cross_site_fetch_is_refused(page: Page, evil: str, path: str, kind: str) -> None:
    """By its origin: the request itself, and the preflight where the browser asks first."""
    page.goto(evil)
    seen = statuses(page)
    assert page.evaluate(FETCH, [URL + path, kind]) == "TypeError"
    until(lambda: seen, page)
    assert seen == [403]


def test_a_cross_site_page_reads_no_model_names(page: Page, evil: str) -> None:
    """A GET has an origin, too."""
    page.goto(evil)
    seen = statuses(page)
    read = "url => fetch(url).then(reply => reply.text(), error => error.name)"
    assert page.evaluate(read, f"{URL}/v1/models") == "TypeError"
    until(lambda: seen, page)
    assert seen == [403]


@pytest.mark.parametrize("kind", ["script", "img", "iframe", "fetch"])
def test_what_a_cross_site_page_embeds_is_refused(page: Page, evil: str, kind: str) -> None:
    """Its answer would be hidden from the page, but how it comes would tell something."""
    page.goto(evil)
    seen = statuses(page)
    page.evaluate(EMBED, [kind, f"{URL}/v1/edgewise/device"])
    until(lambda: seen, page)
    assert set(seen) == {403}


def test_a_cross_site_form_is_refused(page: Page, evil: str) -> None:
    """A form may post to any site without being asked."""
    page.goto(evil)
    with page.expect_navigation() as navigation:
        page.get_by_role("button").click()
    assert navigation.value.status == 403


@pytest.mark.parametrize("path", ["/", "/v1/edgewise/device"])
def test_a_rebound_name_is_refused(page: Page, path: str) -> None:
    """A name that points to us now would have our origin."""
    response = page.goto(f"http://{REBOUND}:{PORT}{path}")
    assert 400 <= response.status < 500
