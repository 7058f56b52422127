"""`faceae serve`: what it answers, what it refuses, the page in a browser, and how it ends."""

import io
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
from pages import CHROMIUM
from PIL import Image
from processes import assert_no_process_is_left, kill_session
from runs import ROOT
from service import KNOWS, SIZE, TOKEN, Running, clients, encoded, scratched, until

import faceae
from faceae.data.synthetic import portrait


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    running = Running(tmp_path_factory.mktemp("serve"), "--limit.megapixels", "1", "--limit.megabytes", "2")
    try:
        running.health = running.wait()
        yield running
        running.process.send_signal(signal.SIGINT)
        said = running.process.communicate(timeout=60)[0]
        assert running.process.returncode == 130, said
        assert TOKEN not in said
        assert [line.split()[0] for line in said.splitlines()] == ["model", "page", "programs", "interrupted;"]
        assert_no_process_is_left(running.process.pid)
    finally:
        running.process.kill()
        kill_session(running.process.pid)


def test_it_says_what_it_is(service):
    assert service.health["status"] == "ok"
    assert service.health["task"] == "inpaint"
    assert service.health["max_megapixels"] == 1
    page = requests.get(f"{service.url}/docs", headers=KNOWS, timeout=10).text
    for word in ("POST /restore", "image", "mask", "413", "422"):
        assert word in page
    schema = requests.get(f"{service.url}/openapi.json", headers=KNOWS, timeout=10).json()
    assert set(schema["paths"]) == {"/health", "/restore", "/holes"}


def test_a_picture_comes_back_restored_in_its_own_format(service):
    picture, hole = scratched()
    expected = faceae.load()(picture, hole)
    answer = service.post("restore", image=("a.png", encoded(picture)), mask=("m.png", encoded(hole)))
    assert answer.headers["content-type"] == "image/png"
    assert (np.asarray(Image.open(io.BytesIO(answer.content))) == expected).all()
    answer = service.post("restore", image=("a.JPG", encoded(picture, "JPEG")), mask=("m.png", encoded(hole)))
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == (SIZE, SIZE)


def test_black_boxes_are_found_and_filled_without_a_mask(service):
    picture = portrait(1, SIZE).copy()
    assert service.post("holes", image=encoded(picture)).status_code == 204
    picture[30:50, 40:60] = 0
    found = np.asarray(Image.open(io.BytesIO(service.post("holes", image=encoded(picture)).content)))
    expected = np.zeros((SIZE, SIZE), bool)
    expected[30:50, 40:60] = True
    assert (found == expected).all()
    answer = service.post("restore", image=("a.gif", encoded(picture)))  # a format that is not written
    filled = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert answer.headers["content-type"] == "image/png"
    assert (filled[~expected] == picture[~expected]).all()
    assert filled[expected].mean() > 20


def test_requests_at_the_same_time_are_answered_as_alone(service):
    pictures = [portrait(number, 64 + 8 * number) for number in range(8)]
    holes = [np.zeros(picture.shape[:2], bool) for picture in pictures]
    for hole in holes:
        hole[20:26, 10:50] = True
    with ThreadPoolExecutor(8) as threads:
        answers = list(
            threads.map(
                lambda pair: service.post("restore", image=encoded(pair[0]), mask=encoded(pair[1])),
                zip(pictures, holes, strict=True),
            )
        )
    for picture, hole, answer in zip(pictures, holes, answers, strict=True):
        made = np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)
        assert np.abs(made - faceae.load()(picture, hole)).max() <= 1


@pytest.mark.parametrize(("files", "status", "message"), [
    ({"image": b"no picture"}, 415, "image: not an image (PNG, JPEG"),
    ({"image": encoded(np.zeros((1001, 1000), np.uint8))}, 413, "it has 1000x1001 pixels; up to 1 million"),
    ({"image": os.urandom(2_100_000)}, 413, "the upload is larger than 2 MB"),
    ({"image": encoded(portrait(0, SIZE))}, 422, "image: there is no solid black box"),
    ({"image": encoded(portrait(0, SIZE)), "mask": encoded(np.zeros((8, 8), np.uint8))}, 422, "mask: its mask hides"),
    ({"mask": encoded(portrait(0, SIZE))}, 422, "image: field required"),
], ids=["no picture", "pixels", "bytes", "no hole", "empty mask", "no image"])  # fmt: skip
def test_what_cannot_be_used_is_refused_with_a_reason(service, files, status, message):
    answer = service.post("restore", **files)
    assert answer.status_code == status, answer.text
    assert message in answer.json()["error"]


def test_an_upload_that_does_not_say_its_size_is_cut_off(service):
    def endless():
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
        for _ in range(40):
            yield b"x" * 100_000

    headers = KNOWS | {"Content-Type": "multipart/form-data; boundary=x"}
    answer = requests.post(f"{service.url}/restore", data=endless(), headers=headers, timeout=60)
    assert answer.status_code == 413
    assert answer.json() == {"error": "the upload is larger than 2 MB"}


def test_without_the_token_nothing_is_shown(service):
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "faceae_token=wrong"}):
        for path in ("", "docs", "openapi.json"):
            assert requests.get(f"{service.url}/{path}", headers=headers, timeout=10).status_code == 401
        assert service.post("restore", headers=headers, image=b"").status_code == 401
    session = requests.Session()
    answer = session.get(f"{service.url}/?token={TOKEN}", timeout=10)
    assert answer.status_code == 200
    assert TOKEN not in answer.url
    assert session.get(f"{service.url}/docs", timeout=10).status_code == 200


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed")
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1400, "light")])
def test_a_photograph_is_painted_restored_compared_and_downloaded(service, tmp_path, width, scheme):
    from playwright.sync_api import sync_playwright

    picture, _ = scratched()
    (tmp_path / "old.jpg").write_bytes(encoded(picture, "JPEG"))
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        wrong, asked = [], []
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{service.url}/?token={TOKEN}")
        page.set_input_files("#file", tmp_path / "old.jpg")
        page.wait_for_selector("#paint:visible")
        page.click("#restore")
        assert page.inner_text("#status") == "Paint over what is damaged first."
        box = page.locator("#paint").bounding_box()
        x, y, side = box["x"], box["y"], box["width"]
        page.fill("#size", "8")
        page.mouse.move(x + 0.2 * side, y + 0.44 * side)
        page.mouse.down()
        page.mouse.move(x + 0.7 * side, y + 0.44 * side, steps=5)
        page.mouse.up()
        page.focus("#stage")
        for key in ("ArrowDown", " ", "Control+z"):  # painted with the keyboard, and taken back
            page.keyboard.press(key)
        page.keyboard.press("Enter")
        page.wait_for_selector("#download:visible")
        assert "Restored in" in page.inner_text("#status")
        page.fill("#compare", "20")
        assert page.locator("#after").evaluate("element => element.style.clipPath") == "inset(0px 0px 0px 20%)"
        with page.expect_download() as download:
            page.click("#download")
        download.value.save_as(tmp_path / "made.jpg")
        assert download.value.suggested_filename == "old-restored.jpg"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()
    assert wrong == []
    assert all(url.startswith((service.url, f"blob:{service.url}", "data:")) for url in asked)
    made, given = (np.asarray(Image.open(tmp_path / name)).astype(int) for name in ("made.jpg", "old.jpg"))
    assert made.shape == given.shape
    changed = np.abs(made - given).max(2)
    assert changed[41:43, 25:60].mean() > 5 * changed[60:].mean()


def test_a_service_that_others_can_reach_wants_a_token(tmp_path, monkeypatch):
    monkeypatch.delenv("FACEAE_TOKEN", raising=False)
    command = [sys.executable, "-m", "faceae", "serve", "--host", "0.0.0.0"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 2
    assert said.stderr.startswith("error: --host 0.0.0.0: others could use the service; set FACEAE_TOKEN")


@pytest.mark.slow
def test_a_copy_of_the_model_is_killed_and_only_its_own_requests_are_lost(tmp_path):
    running, (picture, hole) = Running(tmp_path, "--replicas", "2"), scratched()
    files = {"image": encoded(picture), "mask": encoded(hole)}
    try:
        running.wait()
        with clients(4, lambda: running.post("restore", **files).status_code) as answers:
            until(lambda: len(answers) >= 20)
            os.kill(running.copies()[0], signal.SIGKILL)
            killed_at = len(answers)
            until(lambda: len(answers) >= killed_at + 60)
        lost = [code for code in answers if code != 200]
        assert len(lost) <= 4
        assert set(lost) <= {503}  # the page asks again
        until(lambda: len(running.copies()) == 2)
        assert running.post("restore", **files).status_code == 200
    finally:
        running.process.kill()
        kill_session(running.process.pid)
