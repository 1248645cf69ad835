"""Captioners: what is sent and read, every fault by its name, and models that really generate."""

from __future__ import annotations

import io
import json
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sketchgen.captioner import (
    CaptionerConfig,
    Failure,
    Request,
    captioner_name,
    captioner_settings,
    check_captioner,
)
from sketchgen.captioners import build_captioner, check_reach
from sketchgen.captioners.hf import HfCaptioner
from sketchgen.captioners.server import ServerCaptioner
from sketchgen.description import Description
from tests.sketchgen.caption_server import Asked, serving, slow, status
from tests.sketchgen.stand_in import save_captioner, save_refiner

SCHEMA = Description.model_json_schema()


def jpeg(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(file, "JPEG")
    return file.getvalue()


def server_config(url: str, **fields: Any) -> CaptionerConfig:
    base = CaptionerConfig("server", "eyes", base_url=url, concurrency=4, timeout=5, retries=0, patience=100)
    return replace(base, **fields)


def requests(count: int) -> list[Request]:
    return [Request(str(number), jpeg("red")) for number in range(count)]


def nobody() -> str:
    """A URL where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


# --- a server


def test_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTION_KEY", "secret")
    with serving(lambda asked: "yes") as (server, url):
        model = ServerCaptioner(server_config(url, key="CAPTION_KEY", max_tokens=77), SCHEMA)
        assert model.answer([Request("what?", jpeg("red")), Request("only text")]) == ["yes", "yes"]
    seen = {asked.prompt: asked for asked in server.asked}
    with_image, without = seen["what?"], seen["only text"]
    assert with_image.image is not None and with_image.image.size == (64, 48)
    assert without.image is None
    assert with_image.headers["authorization"] == "Bearer secret"
    body = with_image.body
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("eyes", 0, 77)
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["object", "description", "relations", "box"]
    assert schema["additionalProperties"] is False
    assert schema["description"] == "One object of the image."


def test_no_schema_and_no_key_where_none_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving(lambda asked: "yes") as (server, url):
        ServerCaptioner(server_config(url, structured=False), SCHEMA).answer(requests(1))
    assert "response_format" not in server.asked[0].body
    assert server.asked[0].headers["authorization"] == "Bearer none"


def test_many_at_once_and_answers_in_order() -> None:
    def reply(asked: Asked) -> str:
        slow(0.06 - 0.005 * int(asked.prompt))
        return asked.prompt

    with serving(reply) as (server, url):
        answers = ServerCaptioner(server_config(url), SCHEMA).answer(requests(10))
    assert answers == [str(number) for number in range(10)]
    assert 2 <= server.most_at_once <= 4


FAULTS = {
    "time-out": lambda asked: slow(0.6) or "late",
    "rate-limit": lambda asked: status(429, "too many", retry_after="0.01"),
    "server-error": lambda asked: status(500, "cuda out of memory"),
    "request-refused": lambda asked: status(400, "image too large"),
}


@pytest.mark.parametrize("reason", FAULTS)
def test_each_fault_has_its_name(reason: str) -> None:
    with serving(FAULTS[reason]) as (server, url):
        config = server_config(url, timeout=0.2, retries=1 if reason == "rate-limit" else 0)
        (failure,) = ServerCaptioner(config, SCHEMA).answer(requests(1))
    assert isinstance(failure, Failure)
    assert failure.reason == reason
    seen = {"time-out": "no answer within 0.2 s", "rate-limit": "429: ", "server-error": "cuda out of memory"}
    assert seen.get(reason, "400: ") in failure.detail
    assert len(server.asked) == (2 if reason == "rate-limit" else 1)


@pytest.mark.parametrize(
    "body", [b"<html>proxy</html>", b"{}", b'{"choices": []}', b'{"choices": [{"message": null}]}', b"\xff\xfe", b""]
)
@pytest.mark.parametrize("kind", ["text/html", "application/json"])
def test_a_200_that_is_no_completion_is_an_error_of_the_server(body: bytes, kind: str) -> None:
    with serving(lambda asked: (200, {"content_type": kind}, body)) as (_, url):
        (failure,) = ServerCaptioner(server_config(url), SCHEMA).answer(requests(1))
    assert isinstance(failure, Failure)
    assert failure.reason == "server-error"


def test_an_answer_without_text_is_an_empty_one() -> None:
    body = {"choices": [{"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": None}}]}
    with serving(lambda asked: (200, {}, json.dumps(body).encode())) as (_, url):
        assert ServerCaptioner(server_config(url), SCHEMA).answer(requests(1)) == [""]


def test_nobody_there() -> None:
    (failure,) = ServerCaptioner(server_config(nobody()), SCHEMA).answer(requests(1))
    assert isinstance(failure, Failure)
    assert failure.reason == "no-connection"
    assert "refused" in failure.detail


def test_a_refusal_for_now_is_waited_out_as_long_as_the_server_says() -> None:
    times: list[float] = []

    def reply(asked: Asked) -> Any:
        times.append(time.monotonic())
        return status(429, "later", retry_after="0.3") if len(times) == 1 else "now"

    with serving(reply) as (_, url):
        assert ServerCaptioner(server_config(url, retries=1), SCHEMA).answer(requests(1)) == ["now"]
    assert times[1] - times[0] >= 0.3


def test_a_server_that_is_down_ends_the_work_instead_of_failing_each_request() -> None:
    with serving(lambda asked: status(503, "loading")) as (server, url):
        model = ServerCaptioner(server_config(url, patience=6), SCHEMA)
        with pytest.raises(ConnectionError, match=r"6 requests in a row failed \(the last: server-error, 503: loading"):
            model.answer(requests(60))
        assert 6 <= len(server.asked) <= 6 + 4
        server.reply = lambda asked: "up"
        with pytest.raises(ConnectionError):
            model.answer(requests(3))  # nobody has looked whether it is up again
        model.check()
        assert model.answer(requests(3)) == ["up"] * 3


def test_failures_among_answers_are_no_outage() -> None:
    with serving(lambda asked: "yes" if int(asked.prompt) % 3 == 0 else status(500)) as (_, url):
        model = ServerCaptioner(server_config(url, patience=3, concurrency=1), SCHEMA)
        answers = model.answer(requests(30))
        model.check()
    assert sum(isinstance(answer, Failure) for answer in answers) == 20


def test_after_a_failure_a_server_that_is_gone_is_told() -> None:
    with serving(lambda asked: status(500, "ouch")) as (_, url):
        model = ServerCaptioner(server_config(url), SCHEMA)
        model.check()
        model.answer(requests(1))
        model.check()  # it is there: the fault was the request's
        model.answer(requests(1))
    with pytest.raises(
        ConnectionError, match=r"no server answers .*\(the last: server-error, 500: .*ouch\); see to the"
    ):
        model.check()


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (("other", "more"), r"captioner: .* has no model 'eyes'; it has other, more: name one with --captioner\.model"),
        (status(401, "no key"), r"the server refuses: 401: .*is read from the environment \(OPENAI_API_KEY\)"),
        ((200, {"content_type": "text/html"}, b"<html>"), "what answers is no OpenAI-compatible server"),
        (status(503), "the server refuses: 503"),
    ],
)
def test_a_server_is_asked_before_any_work(models: Any, message: str) -> None:
    with serving() as (server, url):
        server.models = models
        with pytest.raises(ValueError, match=message):
            check_reach(server_config(url), "captioner")


def test_a_server_that_lists_no_models_is_one() -> None:
    with serving() as (server, url):
        check_reach(server_config(url), "captioner")
        server.models = status(404)
        check_reach(server_config(url, model="any"), "captioner")


def test_no_server_is_told_before_any_work() -> None:
    with pytest.raises(ValueError, match=r"no server answers .*; start one there .*--refiner\.base-url"):
        check_reach(server_config(nobody()), "refiner")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(
        ValueError, match=r"--captioner\.backend server needs the package openai: .*sketchlm\[caption\]"
    ):
        check_reach(server_config("http://localhost:1/v1"), "captioner")


# --- settings


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (CaptionerConfig(), r"captioner\.model is empty: name a model with --captioner\.model"),
        (CaptionerConfig("server", "eyes", base_url="localhost:8000"), "must begin with http:// or https://"),
    ],
)
def test_settings_that_mean_nothing_are_named(config: CaptionerConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_captioner(config, "captioner")


def test_settings_hold_what_decides_the_answers_and_no_place() -> None:
    one, other = server_config("http://a/v1", key="A", timeout=1), server_config("http://b/v1", key="B", concurrency=9)
    assert captioner_settings(one) == captioner_settings(other)
    hub = CaptionerConfig(model="owner/name", revision="abc", device="cpu")
    assert captioner_settings(hub)["model"] == "owner/name"
    assert captioner_settings(replace(hub, device="cuda")) == captioner_settings(hub)
    assert captioner_settings(replace(hub, batch=1)) != captioner_settings(hub)
    assert captioner_name(hub, captioner_settings(hub)) == "owner/name@abc"


# --- models of Hugging Face

TWINS = (("what?", "red", "it is red"), ("what?", "blue", "blue, I see"), ("where is it?", "blue", "in the middle"))


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taught")
    save_captioner(folder, [(jpeg(colour), prompt, answer) for prompt, colour, answer in TWINS], 60)
    return folder


def test_a_captioner_reads_prompt_and_picture(taught: Path) -> None:
    asked = [Request(prompt, jpeg(colour)) for prompt, colour, _ in TWINS]
    right = [answer for _, _, answer in TWINS]
    config = CaptionerConfig(model=str(taught), max_tokens=30, device="cpu")
    for batch in (1, 2, 8):  # prompts of different length in one batch: padding does not show
        assert build_captioner(replace(config, batch=batch), SCHEMA).answer(asked) == right
    cut = HfCaptioner(replace(config, max_tokens=4), sees=True)
    assert cut.answer(asked[:1]) == ["it i"]
    cut.check()


def test_a_local_folder_is_known_by_its_weights(taught: Path) -> None:
    config = CaptionerConfig(model=str(taught))
    settings = captioner_settings(config)
    assert settings["model"].startswith("sha256:")
    assert str(taught) not in json.dumps(settings)
    assert captioner_name(config, settings) == f"llava-{settings['model'][7:15]}"


def test_a_refiner_reads_text_and_needs_no_token_for_padding(tmp_path: Path) -> None:
    lessons = [(b"", "say one", "one"), (b"", "say all of two", "two, all of it")]
    save_refiner(tmp_path, lessons, 60)
    model = build_captioner(CaptionerConfig(model=str(tmp_path), max_tokens=30, device="cpu"), SCHEMA, sees=False)
    assert model.answer([Request(prompt) for _, prompt, _ in lessons]) == ["one", "two, all of it"]
    with pytest.raises(ValueError, match=r"is not an image-text-to-text model .*use the backend `server`"):
        HfCaptioner(CaptionerConfig(model=str(tmp_path), device="cpu"), sees=True)


def test_missing_weights_are_named_with_the_remedy(tmp_path: Path, taught: Path) -> None:
    with pytest.raises(FileNotFoundError, match="owner/none has no weights that can be loaded .*hf download"):
        HfCaptioner(CaptionerConfig(model="owner/none", device="cpu"), sees=True)
    for file in taught.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(FileNotFoundError, match="has no weights that can be loaded"):
        HfCaptioner(CaptionerConfig(model=str(tmp_path), device="cpu"), sees=True)
    (tmp_path / "config.json").unlink()
    config = CaptionerConfig(model=str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"holds no model: config\.json with its `model_type` is missing"):
        captioner_name(config, captioner_settings(config))


def test_a_model_that_was_never_tuned_to_follow_is_refused(taught: Path, tmp_path: Path) -> None:
    for file in taught.iterdir():
        if "chat_template" not in file.name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    for name in ("tokenizer_config.json", "processor_config.json"):
        data = json.loads((tmp_path / name).read_text())
        data.pop("chat_template", None)
        (tmp_path / name).write_text(json.dumps(data))
    with pytest.raises(ValueError, match="has no chat template"):
        HfCaptioner(CaptionerConfig(model=str(tmp_path), device="cpu"), sees=True)
