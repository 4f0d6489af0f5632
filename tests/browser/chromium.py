"""Drives a headless Chromium through the DevTools protocol over its pipe: JSON texts, each ended
by a zero byte, from it on descriptor 4 and to it on descriptor 3. Needs nothing but Python."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    # Whatever asks for an address gets none.
    "--host-resolver-rules=MAP * ~NOTFOUND",
]


class BrowserError(Exception):
    """The browser did not start, stopped, or refused a command."""


def find_chromium():
    """The browser to use: $KERNELFORGE_CHROMIUM or one of the usual names; None: there is none."""
    named = os.environ.get("KERNELFORGE_CHROMIUM")
    return named or next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """A running browser; a context manager."""

    def __init__(self, program, timeout=60):
        self.timeout = timeout
        self.profile = tempfile.TemporaryDirectory(
            prefix="kernelforge-chromium-", ignore_cleanup_errors=True
        )
        # Out of the way of the numbers that the child's ends get.
        child_in, self.out = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for fd in os.pipe())
        self.input, child_out = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for fd in os.pipe())

        def connect():
            os.dup2(child_in, 3)
            os.dup2(child_out, 4)

        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={self.profile.name}", "about:blank"],
            preexec_fn=connect,
            pass_fds=(3, 4),
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )
        os.close(child_in)
        os.close(child_out)
        self.buffer = b""
        self.number = 0
        self.listeners = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.command("Browser.close")
            self.process.wait(10)
        except (BrowserError, OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self.out)
        os.close(self.input)
        self.log.close()
        self.profile.cleanup()

    def _message(self, deadline):
        """The next message; None where none comes until then."""
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.input], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                return None
            data = os.read(self.input, 1 << 20)
            if not data:
                self.log.seek(0)
                text = self.log.read().decode(errors="replace")[-2000:]
                raise BrowserError(f"the browser ended: {text}")
            self.buffer += data
        text, self.buffer = self.buffer.split(b"\0", 1)
        message = json.loads(text)
        if "method" in message:
            self.listeners.get(message.get("sessionId"), lambda _: None)(message)
        return message

    def command(self, method, session=None, **parameters):
        """Sends a command and returns its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.out, data) :]
        deadline = time.monotonic() + self.timeout
        while (answer := self._message(deadline)) is not None:
            if answer.get("id") == message["id"]:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                return answer["result"]
        raise BrowserError(f"{method}: no answer in {self.timeout} s")

    def wait(self, condition):
        """Handles events until the condition holds."""
        deadline = time.monotonic() + self.timeout
        while not condition():
            if self._message(deadline) is None:
                raise BrowserError(f"nothing came in {self.timeout} s")


class Page:
    """A page with what it asked for (`requests`, addresses) and complained of (`complaints`)."""

    def __init__(self, browser):
        self.browser = browser
        self.target = browser.command("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.command("Target.attachToTarget", targetId=self.target, flatten=True)[
            "sessionId"
        ]
        self.requests = []
        self.complaints = []
        self.loaded = False
        browser.listeners[self.session] = self._event
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.command(f"{domain}.enable")

    def close(self):
        self.browser.command("Target.closeTarget", targetId=self.target)

    def command(self, method, **parameters):
        return self.browser.command(method, session=self.session, **parameters)

    def _event(self, message):
        method, data = message["method"], message["params"]
        if method == "Network.requestWillBeSent":
            self.requests.append(data["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.requests.append(data["url"])
        elif method == "Page.loadEventFired":
            self.loaded = True
        elif method == "Runtime.exceptionThrown":
            details = data["exceptionDetails"]
            self.complaints.append(
                details.get("exception", {}).get("description") or details["text"]
            )
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(f"console.{data['type']}: {data['args']}")
        elif method == "Log.entryAdded":
            self.complaints.append(f"{data['entry']['level']}: {data['entry']['text']}")

    def view(self, width, height=900, dark=False, media=""):
        """The size of the window, and what the system prefers."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def open(self, path):
        """Loads a file and waits until it is shown."""
        self.loaded = False
        self.command("Page.navigate", url=Path(path).resolve().as_uri())
        self.browser.wait(lambda: self.loaded)
        self.settle()

    def settle(self):
        """Waits for two frames: sizes are observed and charts painted."""
        self.evaluate(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame("
            "() => setTimeout(() => done(true), 50))))"
        )

    def evaluate(self, expression):
        """The value of a JavaScript expression, promises awaited."""
        answer = self.command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def move(self, x, y):
        self.command("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.settle()

    def click(self, x, y):
        self.move(x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.command(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
            )
        self.settle()

    def press(self, key, text=""):
        """One key on the element in focus."""
        code = {"Enter": 13, " ": 32}.get(key, 0)
        for kind in ("keyDown", "keyUp"):
            self.command(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                windowsVirtualKeyCode=code,
                **({"text": text} if text and kind == "keyDown" else {}),
            )
        self.settle()

    def screenshot(self, path):
        """The whole page as a PNG."""
        size = self.command("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        data = self.command("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
        Path(path).write_bytes(base64.b64decode(data))
