"""What a site's process makes of instructions, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedse.config import EndpointConfig, RunConfig
from fedse.deployment.files import SiteFile, load_site_file
from fedse.deployment.folders import create
from fedse.deployment.site import SiteService, SiteStopped
from fedse.messages import Done, Instruction, Purpose, Refused, Reply
from fedse.progress import silent
from fedse.sites.shared_model import SharedModel
from fedse.sites.site import Site
from helpers.deployed import small_run

RUN = "0" * 32


@pytest.fixture
def file(tmp_path: Path) -> SiteFile:
    folder = create(tmp_path / "federation", ["localhost"], small_run()).site("maze")
    file = load_site_file(folder / "site.yaml")
    file.folder.mkdir()
    return file


def asked(service: SiteService, purpose: Purpose = Purpose.JOIN, **fields: Any) -> Any:
    if purpose is Purpose.JOIN:
        fields["proposal"] = small_run().model_dump(mode="json")
    return Reply.decode(service.answer(Instruction(run=RUN, site="maze", purpose=purpose, **fields).encode())).answer


@pytest.mark.parametrize("error", [RuntimeError("out of memory: secret"), MemoryError(), KeyError("secret")])
def test_a_site_outlives_any_error(file: SiteFile, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The server learns the class; the words, and where it was, stay at the site, also out of its log."""
    said: list[str] = []
    service = SiteService(file.model_copy(update={"disclose": ("errors_in_words",)}), listener=silent, told=said.append)
    assert asked(service) == Done()

    def failing(*_: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Site, "answer", failing)
        assert asked(service, Purpose.INITIAL) == Refused(reason=type(error).__name__)
    noted = (file.folder / "errors.log").read_text()
    assert "Traceback" in noted
    assert str(error) in noted
    assert not any("secret" in line for line in said)
    assert asked(service) == Done(), "it works on"
    assert (service.status.answered, service.status.refused) == (2, 1)


def test_a_site_that_is_started_again_plays_where_its_file_says_now(
    file: SiteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a run that it began elsewhere, and when the server sees no reason to let it in anew."""
    played_on: list[str | None] = []
    load = SharedModel.load

    def noted(config: RunConfig, **options: Any) -> SharedModel:
        played_on.append(config.rollout.endpoint.url)
        return load(config, **options)

    monkeypatch.setattr(SharedModel, "load", noted)
    for url, purpose in ((None, Purpose.JOIN), ("http://a:1", Purpose.JOIN), ("http://b:1", Purpose.INITIAL)):
        now = file.model_copy(update={"endpoint": EndpointConfig(url=url)})
        assert not isinstance(asked(SiteService(now, listener=silent, told=lambda _: None), purpose), Refused)
    assert played_on == [None, "http://a:1", "http://b:1"]


def test_a_site_that_is_told_to_stop_does_not_refuse(file: SiteFile) -> None:
    service = SiteService(file, listener=silent, told=lambda _: None)
    assert asked(service) == Done()
    service.stop.set()
    with pytest.raises(SiteStopped):
        asked(service, Purpose.DEMONSTRATE)
    assert service.status.refused == 0


def test_why_a_site_refuses_does_not_fill_its_disk(file: SiteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedse.deployment.site._ERRORS_BYTES", 500)
    service = SiteService(file, listener=silent, told=lambda _: None)
    for _ in range(40):
        assert asked(service, Purpose.INITIAL) == Refused(reason="UnknownRunError")
    kept = sorted(path for path in file.folder.iterdir() if path.name.startswith("errors.log"))
    assert [path.name for path in kept] == ["errors.log", "errors.log.1"]
    assert all(path.stat().st_size < 1000 for path in kept)
