"""What a site keeps of what it was sent, and how it tells its updates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedse.adapters.codec import unpack
from fedse.adapters.deltas import CODECS, encode
from fedse.adapters.state import AdapterState
from fedse.errors import UnknownAdapterError
from fedse.messages import Diverged, Instruction, Purpose, Reply, Update
from fedse.messages.wire import Delta
from fedse.runs.layout import SiteFolder
from fedse.sites.channel import SiteChannel
from fedse.types import CodecName
from helpers.small_adapters import random_state

INITIAL, FIRST, SECOND, THIRD = (random_state(seed) for seed in range(4))


def channel(folder: Path) -> SiteChannel:
    """As of a process that has just begun."""
    return SiteChannel(SiteFolder(folder), lambda: INITIAL)


def sent(adapter: AdapterState, base: AdapterState | None = None, **fields: Any) -> bytes:
    message = Instruction(**({"site": "a", "purpose": Purpose.ROUND, "round": 1, "adapter": adapter} | fields))
    if base is None:
        return message.encode()
    payload = b"" if base is adapter else encode("fp32", base, adapter)
    return message.encode({adapter.digest: Delta(base.digest, "fp32", payload)})


def answered(folder: Path, number: int, adapter: AdapterState, codec: CodecName | None, **fields: Any) -> bytes:
    """The bytes of an update of a round that began from the first adapter."""
    asked = Instruction(site="a", purpose=Purpose.ROUND, round=number, adapter=FIRST, codec=codec, **fields)
    reply = Reply(site="a", purpose=Purpose.ROUND, round=number, answer=Update(adapter=adapter))
    return channel(folder).encode(asked, reply)


def update(data: bytes, base: AdapterState = FIRST) -> AdapterState:
    answer = Reply.decode(data, {base.digest: base}.get).answer
    assert isinstance(answer, Update)
    return answer.adapter


class TestReceived:
    def test_the_last_two_are_there_after_a_restart_and_in_every_process(self, tmp_path: Path) -> None:
        channel(tmp_path).decode(sent(FIRST))
        channel(tmp_path).decode(sent(SECOND, FIRST))
        channel(tmp_path).decode(sent(FIRST, FIRST))
        channel(tmp_path).decode(sent(THIRD, SECOND))
        for adapter in (FIRST, THIRD):
            found = channel(tmp_path).decode(sent(adapter, adapter, owner="b")).adapter
            assert found is not None
            assert found.digest == adapter.digest
        with pytest.raises(UnknownAdapterError):
            channel(tmp_path).decode(sent(SECOND, SECOND))
        assert len(list((tmp_path / "received").glob("*.safetensors"))) == 2

    def test_what_a_killed_process_did_not_remove_is_removed_when_it_is_asked_again(self, tmp_path: Path) -> None:
        for before, adapter in ((None, FIRST), (FIRST, SECOND), (SECOND, THIRD)):
            channel(tmp_path).decode(sent(adapter, before))
        received = tmp_path / "received"
        kept = sorted(received.glob("*.safetensors"))
        (received / f"{FIRST.digest}.safetensors").write_bytes(kept[0].read_bytes())
        channel(tmp_path).decode(sent(THIRD, THIRD))
        assert sorted(received.glob("*.safetensors")) == kept

    def test_the_initial_one_need_not_be_sent(self, tmp_path: Path) -> None:
        assert channel(tmp_path).decode(sent(INITIAL, INITIAL)).adapter is not None
        assert channel(tmp_path).decode(sent(FIRST, INITIAL)).adapter is not None
        assert len(list((tmp_path / "received").glob("*.safetensors"))) == 1

    def test_another_sites_adapter_drives_none_out(self, tmp_path: Path) -> None:
        channel(tmp_path).decode(sent(FIRST))
        for visiting in (SECOND, THIRD):
            channel(tmp_path).decode(sent(visiting, owner="b"))
        assert channel(tmp_path).decode(sent(FIRST, FIRST)).adapter is not None

    @pytest.mark.parametrize("content", [b"", b"garbage", None])
    def test_a_damaged_file_is_as_one_that_is_gone(self, tmp_path: Path, content: bytes | None) -> None:
        channel(tmp_path).decode(sent(FIRST))
        [file] = (tmp_path / "received").glob("*.safetensors")
        if content is None:
            channel(tmp_path / "other").decode(sent(SECOND))
            [other] = (tmp_path / "other/received").glob("*.safetensors")
            content = other.read_bytes()  # another adapter under its name
        file.write_bytes(content)
        (tmp_path / "received/order.json").write_bytes(content)
        with pytest.raises(UnknownAdapterError):
            channel(tmp_path).decode(sent(FIRST, FIRST))
        channel(tmp_path).decode(sent(FIRST))
        assert channel(tmp_path).decode(sent(FIRST, FIRST)).adapter is not None

    def test_a_digest_names_no_path(self, tmp_path: Path) -> None:
        data = Instruction(site="a", purpose=Purpose.ROUND, adapter=FIRST).encode(
            {FIRST.digest: Delta("../../etc/passwd", "fp32", encode("fp32", INITIAL, FIRST))}
        )
        with pytest.raises(UnknownAdapterError):
            channel(tmp_path / "deep").decode(data)
        assert list(tmp_path.iterdir()) == []


class TestUpdates:
    @pytest.mark.parametrize("codec", CODECS)
    def test_asked_again_it_sends_the_same_bytes(self, codec: CodecName, tmp_path: Path) -> None:
        first = answered(tmp_path, 1, SECOND, codec)
        second = answered(tmp_path, 2, THIRD, codec)
        assert answered(tmp_path, 2, THIRD, codec) == second
        assert second != answered(tmp_path / "new", 2, THIRD, codec) or codec != "int4"
        assert len(list((tmp_path / "residuals").glob("*"))) == (2 if codec == "int4" else 0)
        assert update(first).digest != SECOND.digest or codec == "fp32"

    def test_what_int4_loses_it_sends_later(self, tmp_path: Path) -> None:
        total = {name: array * 0 for name, array in FIRST.tensors.items()}
        for number in range(1, 21):
            told = update(answered(tmp_path, number, SECOND, "int4"))
            total = {name: total[name] + told.tensors[name] - FIRST.tensors[name] for name in total}
        for name, array in total.items():
            change = SECOND.tensors[name] - FIRST.tensors[name]
            assert array / 20 == pytest.approx(change, abs=float(abs(change).max()) / 7 / 20)
        assert len(list((tmp_path / "residuals").glob("*"))) == 2

    def test_it_is_told_by_where_it_began(self, tmp_path: Path) -> None:
        assert update(answered(tmp_path, 1, SECOND, "fp32", start=THIRD), THIRD).digest == SECOND.digest

    def test_one_that_did_not_change_is_told_by_its_digest(self, tmp_path: Path) -> None:
        data = answered(tmp_path, 1, FIRST, "bf16")
        assert update(data).digest == FIRST.digest
        assert unpack(data)[1] == {}

    def test_whole_where_no_codec_is_named(self, tmp_path: Path) -> None:
        answer = Reply.decode(answered(tmp_path, 1, SECOND, None)).answer
        assert isinstance(answer, Update)
        assert answer.adapter.digest == SECOND.digest

    def test_other_answers_go_as_they_are(self, tmp_path: Path) -> None:
        asked = Instruction(site="a", purpose=Purpose.ROUND, round=1, adapter=FIRST, codec="int4")
        reply = Reply(site="a", purpose=Purpose.ROUND, round=1, answer=Diverged())
        assert channel(tmp_path).encode(asked, reply) == reply.encode()
