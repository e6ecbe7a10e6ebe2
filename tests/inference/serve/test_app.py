from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")

from fastapi.testclient import TestClient
from PIL import Image

from fer_lightning.inference.recognizer import Recognizer
from fer_lightning.inference.serve.app import make_app
from fer_lightning.inference.serve.settings import Access, Limits
from tests.inference.helpers import BrightSquares, scene, tiny_model
from tests.inference.serve.bodies import BAD_IMAGES, BAD_JSON, form, jpeg, png

HOME = "http://127.0.0.1:8000"
FORM = "multipart/form-data"
FACE = {"x", "y", "w", "h", "det_score", "label", "confidence", "uncertain", "probabilities"}


def client_of(limits: Limits | None = None, access: Access | None = None, page: Any = "no page") -> TestClient:
    app = make_app(Recognizer(tiny_model(), BrightSquares()), limits, access, page)
    return TestClient(app, base_url=HOME, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with client_of() as made:
        yield made


def detail(answer: Any) -> str:
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"detail"}
    text: str = answer.json()["detail"]
    assert "\n" not in text
    return text


def test_a_form_with_images_is_answered(client: TestClient) -> None:
    answer = client.post("/recognize", files=form(png((10, 10, 30), (80, 40, 50)), jpeg((20, 20, 40)), png()))
    assert answer.status_code == 200
    assert set(answer.json()) == {"images"}
    assert [set(image) for image in answer.json()["images"]] == [{"faces"}] * 3
    first, second, third = (image["faces"] for image in answer.json()["images"])
    assert [set(face) for face in first] == [FACE, FACE]
    assert [[face[key] for key in "xywh"] for face in first] == [[80, 40, 50, 50], [10, 10, 30, 30]]
    assert len(second) == 1
    assert third == []
    wanted = Recognizer(tiny_model(), BrightSquares())(scene((10, 10, 30), (80, 40, 50)))[0]
    assert first[0]["label"] == wanted.label
    assert first[0]["confidence"] == pytest.approx(wanted.confidence, abs=1e-6)
    assert first[0]["uncertain"] is False
    assert first[0]["probabilities"] == pytest.approx(wanted.probabilities, abs=1e-6)
    assert list(first[0]["probabilities"]) == list(tiny_model().class_names)


def test_what_a_server_allows_unless_told_otherwise() -> None:
    limits = Limits(body=16 * 2**20, images=16, pixels=25_000_000, read_s=10.0, waiting=64, retry_s=1, threads=2)
    assert Limits() == limits
    assert Access() == Access(token="", hosts=("localhost", "127.0.0.1", "::1"), public="")


def test_a_box_is_told_by_its_corner_width_and_height(client: TestClient) -> None:
    picture = scene()
    picture[30:50, 60:110] = 255
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    answer = client.post("/recognize", files=form(*[buffer.getvalue()] * 16))  # as many as may be
    assert [[image["faces"][0][key] for key in "xywh"] for image in answer.json()["images"]] == [[60, 30, 50, 20]] * 16


def test_a_jpeg_may_have_a_hundred_scans(client: TestClient) -> None:
    file = jpeg((20, 20, 40))
    for more, status in ((99, 200), (100, 422)):
        assert client.post("/recognize", files=form(file + b"\xff\xda" * more)).status_code == status


@pytest.mark.parametrize("before", ["", "data:image/png;base64,"])
def test_json_with_base64_is_answered_as_the_form_is(client: TestClient, before: str) -> None:
    file = png((20, 20, 40))
    images = [before + base64.b64encode(file).decode()] * 2
    body, kind = json.dumps({"images": images}).encode(), " Application/JSON ; charset=utf-8"
    answer = client.post("/recognize", content=body, headers={"content-type": kind})
    assert answer.status_code == 200
    assert answer.json()["images"][0] == client.post("/recognize", files=form(file)).json()["images"][0]
    assert len(answer.json()["images"]) == 2


def test_labels_and_health(client: TestClient) -> None:
    labels = client.get("/labels").json()
    assert labels["labels"] == list(tiny_model().class_names)
    assert (labels["scheme"], labels["model"]) == (tiny_model().scheme, "tiny")
    assert "not what a person feels" in labels["notice"]
    assert client.get("/health").json()["status"] == "ok"
    assert client.get("/health").json()["waiting"] == 0


def test_metrics_count_answers_and_faces() -> None:
    with client_of() as client:
        client.get("/health")  # is not counted
        client.post("/recognize", files=form(png((20, 20, 30), (80, 20, 40)), png()))
        client.post("/recognize", files=form(b"junk"))
        client.post("/recognize", content=b"", headers={"content-type": "text/plain"})
        lines = client.get("/metrics").text.splitlines()
    assert 'fer_requests_total{status="200"} 1.0' in lines
    assert 'fer_requests_total{status="422"} 1.0' in lines
    assert 'fer_requests_total{status="415"} 1.0' in lines
    assert "fer_faces_total 2.0" in lines
    assert "fer_request_seconds_count 1.0" in lines


def test_openapi_knows_the_body_and_all_errors(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    operation = schema["paths"]["/recognize"]["post"]
    assert set(operation["responses"]) == {"200", "400", "401", "403", "408", "413", "415", "422", "429"}
    assert set(operation["requestBody"]["content"]) == {"multipart/form-data", "application/json"}
    example = operation["requestBody"]["content"]["application/json"]["example"]
    assert client.post("/recognize", json=example).json() == {"images": [{"faces": []}]}
    names = schema["components"]["schemas"]
    assert set(names["FaceAnswer"]["properties"]) == FACE
    assert set(names["Problem"]["properties"]) == {"detail"}
    assert set(schema["paths"]) == {"/recognize", "/labels", "/health", "/metrics"}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_bad_images_are_refused(client: TestClient, name: str) -> None:
    file, status = BAD_IMAGES[name]
    answer = client.post("/recognize", files=form(png(), file))
    assert answer.status_code == status
    assert detail(answer).startswith("image 1")


@pytest.mark.parametrize("name", BAD_JSON)
def test_bad_json_is_refused(client: TestClient, name: str) -> None:
    body, status = BAD_JSON[name]
    answer = client.post("/recognize", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert len(detail(answer)) < 200


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", f"{FORM}; boundary=a", 422),
        (b"junk", f"{FORM}; boundary=a", 422),
        (b"junk", FORM, 422),
        (b"--a\r\n\r\nx\r\n--a--\r\n", f"{FORM}; boundary=a", 422),
        (b'--a\r\nContent-Disposition: form-data; name="files"\r\n\r\nx\r\n--a--', f"{FORM}; boundary=a", 422),
        (b"--a\r\nContent-Disposition: form-data; name=", f"{FORM}; boundary=a", 422),
        (b"files=x", "application/x-www-form-urlencoded", 415),
        (png(), "image/png", 415),
        (png(), "", 415),
    ],
)  # fmt: skip
def test_malformed_forms_are_refused(client: TestClient, body: bytes, kind: str, status: int) -> None:
    answer = client.post("/recognize", content=body, headers={"content-type": kind})
    assert answer.status_code == status
    detail(answer)


def test_the_wrong_field_is_named(client: TestClient) -> None:
    answer = client.post("/recognize", files=form(png(), field="file"))
    assert answer.status_code == 422
    assert "fields 'files'" in detail(answer)


@pytest.mark.parametrize("number", [17, 1100])
def test_too_many_images_are_refused(client: TestClient, number: int) -> None:
    answer = client.post("/recognize", files=form(*[b"x"] * number))
    assert answer.status_code == 413
    detail(answer)


def test_a_body_that_is_too_large_is_refused_whatever_it_promises() -> None:
    with client_of(Limits(body=10_000)) as client:
        kind = {"content-type": f"{FORM}; boundary=a"}
        assert client.post("/recognize", content=bytes(10_001), headers=kind).status_code == 413
        assert client.post("/recognize", content=(bytes(5000) for _ in range(3)), headers=kind).status_code == 413
        assert client.post("/recognize", content=(bytes(5000) for _ in range(2)), headers=kind).status_code == 422
        for promise in (b"-5", b"x", b"1" * 40, "٣".encode(), b"\xb2"):
            answer = client.post("/recognize", content=b"", headers={**kind, "content-length": promise})
            assert answer.status_code == 400
            assert "Content-Length" in detail(answer)


def test_a_body_that_comes_too_slowly_is_refused() -> None:
    import anyio

    app = make_app(Recognizer(tiny_model(), None), Limits(read_s=0.05))
    sent: list[Any] = []

    async def ask() -> None:
        async def receive() -> Any:
            await anyio.sleep(0.03)
            return {"type": "http.request", "body": b"x", "more_body": True}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        await app(
            {"type": "http", "method": "POST", "path": "/recognize", "headers": headers, "query_string": b""},
            receive,
            send,
        )

    anyio.run(ask)
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["detail"] == "the body did not come within 0.05 s"


def test_requests_beyond_the_bound_are_sent_away() -> None:
    with client_of(Limits(waiting=0, retry_s=3)) as client:
        answer = client.post("/recognize", files=form(png()))
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "3"
        assert "come back in 3 s" in detail(answer)
        assert 'fer_requests_total{status="429"} 1.0' in client.get("/metrics").text


def test_a_request_that_failed_makes_room_again() -> None:
    with client_of(Limits(waiting=1)) as client:
        assert client.post("/recognize", files=form(b"junk")).status_code == 422
        assert client.post("/recognize", files=form(png())).status_code == 200
        assert client.get("/health").json()["waiting"] == 0


@pytest.mark.parametrize(
    ("sent", "status"),
    [("Bearer secret", 200), ("Bearer Secret", 401), ("Basic secret", 401), ("Bearer é", 401), (None, 401)],
)
def test_with_a_token_only_those_who_have_it_are_answered(sent: str | None, status: int) -> None:
    with client_of(access=Access("secret", hosts=())) as client:
        headers = {} if sent is None else {"authorization": sent.encode()}
        answer = client.post("/recognize", files=form(png()), headers=headers)
        assert answer.status_code == status
        assert client.get("/metrics", headers=headers).status_code == status
        if status == 401:
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "Authorization: Bearer TOKEN" in detail(answer)
        assert client.get("/health", headers={"host": "faces.example.org"}).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"])
def test_programs_of_this_machine_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/health", headers={"host": host}).status_code == 200
    for origin in (host, host.lower()):
        same = {"host": host, "origin": f"http://{origin}", "authorization": "Bearer of another"}
        assert client.post("/recognize", files=form(png()), headers=same).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "", "[::1", "[x]"]
)
def test_another_name_for_this_machine_is_refused(client: TestClient, host: str) -> None:
    for path in ("/health", "/", "/labels"):
        answer = client.get(path, headers={"host": host})
        assert answer.status_code == 403
        assert "--public_name" in detail(answer)


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://localhost:8001", "http://127.0.0.1:8000.evil.example", "", "file://"],
)
def test_pages_of_other_sites_are_refused(client: TestClient, origin: str) -> None:
    answer = client.post("/recognize", files=form(png()), headers={"origin": origin})
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_nobody_else_may_read_the_answers(client: TestClient) -> None:
    asked = {"origin": HOME, "access-control-request-method": "POST"}
    for answer in (client.options("/recognize", headers=asked), client.get("/health", headers={"origin": HOME})):
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_a_proxy_may_pass_requests_on_under_its_name() -> None:
    with client_of(access=Access(public="faces.example.org")) as client:
        origin = {"origin": "https://faces.example.org"}
        assert client.post("/recognize", files=form(png()), headers=origin).status_code == 200
        for host in ("faces.example.org", "Faces.Example.org:443"):
            assert client.get("/health", headers={"host": host, **origin}).status_code == 200
        assert client.get("/health", headers={"host": "other.example.org"}).status_code == 403
    with client_of(access=Access(public="Faces.Example.org")) as client:
        assert client.get("/health", headers={"host": "faces.example.org", **origin}).status_code == 200


def test_every_answer_says_where_pages_may_load_from(client: TestClient) -> None:
    for answer in (client.get("/"), client.get("/nothing"), client.post("/recognize"), client.get("/health")):
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'self';")
        assert "http" not in policy
        assert "*" not in policy
        assert policy.endswith("; frame-ancestors 'none'")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
    assert client.get("/health", headers={"host": "evil.example"}).headers["content-security-policy"] == policy


def test_nothing_of_an_image_is_logged(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.DEBUG), client_of() as client:
        client.post("/recognize", files=[("files", ("private-name.png", png((20, 20, 40)), "image/png"))])
        client.post("/recognize", files=[("files", ("private-name.png", png()[:500], "image/png"))])
    printed = capfd.readouterr()
    assert "private-name" not in caplog.text + printed.out + printed.err


def test_other_methods_and_paths_are_refused(client: TestClient) -> None:
    assert client.get("/recognize").status_code == 405
    assert client.put("/recognize").status_code == 405
    assert client.post("/labels").status_code == 405
    assert client.get("/../../etc/passwd").status_code == 404


def test_where_there_is_no_page_a_sentence_says_why() -> None:
    with client_of(page="it was <not> built") as client:
        for path in ("/", "/index.html"):
            answer = client.get(path)
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/html")
            assert "There is no page here: it was &lt;not&gt; built." in answer.text
            assert "not what a person feels" in answer.text


def test_files_of_the_page_are_asked_for_anew_and_sent_once() -> None:
    with client_of(page={"index.html": b"<p>", "ort/a.wasm": b"\0asm", "ort/b.mjs": b"1"}) as client:
        assert client.get("/").content == b"<p>"
        assert client.get("/ort/b.mjs").headers["content-type"].startswith("text/javascript")
        answer = client.get("/ort/a.wasm")
        assert answer.headers["content-type"] == "application/wasm"
        assert answer.headers["cache-control"] == "no-cache"
        again = client.get("/ort/a.wasm", headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert client.head("/").status_code == 200
        assert client.get("/ort/").status_code == 404
