"""A small inference server with the parts of vLLM's or SGLang's API that fedse uses, on the tiny model.

It is made after their documentation and sources, computes with the whole history for every prompt, and goes wrong on
demand.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fedse.adapters.files import load_adapter
from fedse.config import LoraConfig, ModelConfig
from fedse.errors import FedseError
from fedse.models.base import load_base
from fedse.models.lora import LoraModel

#: A status to answer with; no answer in time; a connection that is lost before, or after, what was asked is done; a
#: reply that is broken off.
Fault = int | Literal["hang", "cut", "lost", "abort"]


class EndpointServer:
    """A server in a thread, from ``with`` on.

    Attributes:
        faults: what the next requests for replies meet, the first one first.
        load_faults: the same for adapters that are to be loaded.
        told: (path, body) of each request, in their order, over all restarts.
        loaded: adapters by name, of the server that runs now.
        replies: requests for one so far.
        on_reply: called with the number of replies so far before each is made.
    """

    def __init__(
        self,
        kind: Literal["vllm", "sglang"] = "vllm",
        *,
        model: str = "tiny",
        runtime_lora: bool = True,
        max_rank: int = 16,
        max_length: int = 4096,
        token_ids: bool = True,
        key: str | None = None,
    ) -> None:
        self.kind = kind
        self.faults: list[Fault] = []
        self.load_faults: list[Fault] = []
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.loaded: dict[str, LoraModel] = {}
        self.on_reply: Callable[[int], None] = lambda _: None
        self.model = model
        self._max_rank, self._max_length, self._key, self._token_ids = max_rank, max_length, key, token_ids
        self._base = load_base(ModelConfig(name="tiny", device="cpu"))
        self._computing = threading.Lock()
        self.replies = 0
        self._prefix = "/v1" if kind == "vllm" else ""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        routes = [
            Route("/v1/models", self._models),
            Route("/v1/completions" if kind == "vllm" else "/generate", self._reply, methods=["POST"]),
        ]
        if runtime_lora:
            routes += [
                Route(f"{self._prefix}/load_lora_adapter", self._load, methods=["POST"]),
                Route(f"{self._prefix}/unload_lora_adapter", self._unload, methods=["POST"]),
            ]
        # As FastAPI answers for a path that it does not have.
        missing = {404: lambda *_: JSONResponse({"detail": "Not Found"}, 404)}
        self._app = Starlette(routes=routes, exception_handlers=missing)

    def __enter__(self) -> EndpointServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Begin, or begin anew: with no adapter."""
        self.loaded = {}
        self._server = uvicorn.Server(
            uvicorn.Config(self._app, host="127.0.0.1", port=self.port, log_level="critical", lifespan="off", ws="none")
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.005)

    def kill(self) -> None:
        """End at once: open connections are lost."""
        for connection in list(self._server.server_state.connections):
            connection.loop.call_soon_threadsafe(connection.transport.abort)  # type: ignore[union-attr]
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(timeout=20)
        assert not self._thread.is_alive()

    def asked(self, path: str) -> list[dict[str, Any]]:
        """Bodies of the requests to paths that end so."""
        return [body for place, body in self.told if place.endswith(path)]

    async def _models(self, request: Request) -> Response:
        if self._key and request.headers.get("authorization") != f"Bearer {self._key}":
            return self._error("Unauthorized", 401)
        self.told.append((request.url.path, {}))
        base = {"id": self.model, "root": self.model, "max_model_len": self._max_length}
        return JSONResponse({"data": [base, *({"id": name, "parent": self.model} for name in self.loaded)]})

    async def _load(self, request: Request) -> Response:
        body = await self._heard(request)
        fault = self.load_faults.pop(0) if self.load_faults else None
        if fault not in (None, "lost") and (answer := await self._fault(fault, request)):
            return answer
        name, path = body["lora_name"], Path(body["lora_path"])
        if name in self.loaded:
            return self._error(f"The lora adapter '{name}' has already been loaded.", 400)
        try:
            adapter = load_adapter(path)
        except FedseError as error:
            return self._error(f"Loading lora {name} failed: No adapter found for {path} ({error.what})", 404)
        meta = adapter.meta
        if meta.rank > self._max_rank:
            return self._error(f"LoRA rank {meta.rank} is greater than max_lora_rank {self._max_rank}.", 500)
        config = LoraConfig(rank=meta.rank, alpha=meta.alpha, target_modules=meta.target_modules)
        model = LoraModel(load_base(ModelConfig(name="tiny", device="cpu")), config)
        model.load(adapter)
        self.loaded[name] = model
        return self._cut(request) if fault == "lost" else JSONResponse({"success": True})

    async def _unload(self, request: Request) -> Response:
        body = await self._heard(request)
        if self.loaded.pop(body["lora_name"], None) is None:
            return self._error(f"The lora adapter '{body['lora_name']}' cannot be found.", 404)
        return JSONResponse({"success": True})

    async def _reply(self, request: Request) -> Response:
        body = await self._heard(request)
        self.replies += 1
        await run_in_threadpool(self.on_reply, self.replies)
        broken = False
        if self.faults:
            fault = self.faults.pop(0)
            broken = fault == "abort"
            if not broken and (answer := await self._fault(fault, request)):
                return answer
        name = body["model"] if self.kind == "vllm" else body.get("lora_path")
        if name not in (self.model, None, *self.loaded):
            if self.kind == "vllm":
                return self._error(f"The model `{name}` does not exist.", 404)
            return self._error(
                f"The following requested LoRA adapters are not loaded: {name}\nLoaded adapters: [].", 400
            )
        model = self.loaded[name].base.model if name in self.loaded else self._base.model
        sampling = body if self.kind == "vllm" else body["sampling_params"]
        prompt = body["prompt"] if self.kind == "vllm" else body["input_ids"]
        most = sampling["max_tokens"] if self.kind == "vllm" else sampling["max_new_tokens"]
        seed = sampling["seed"] if self.kind == "vllm" else sampling["sampling_seed"]
        drawn = await run_in_threadpool(self._draw, model, prompt, most, seed, sampling)
        reason = "abort" if broken else "stop" if drawn[-1][0] in sampling["stop_token_ids"] else "length"
        return JSONResponse(self._answer(drawn, reason))

    def _answer(self, drawn: list[tuple[int, float]], reason: str) -> dict[str, Any]:
        if self.kind == "sglang":
            rows = [[logprob, token, None] for token, logprob in drawn]
            return {"text": "", "meta_info": {"finish_reason": {"type": reason}, "output_token_logprobs": rows}}
        choice = {"text": "", "finish_reason": reason, "logprobs": {"token_logprobs": [found for _, found in drawn]}}
        if self._token_ids:
            choice["token_ids"] = [token for token, _ in drawn]
        return {"choices": [choice]}

    @torch.no_grad()
    def _draw(
        self, model: Any, prompt: list[int], most: int, seed: int, sampling: dict[str, Any]
    ) -> list[tuple[int, float]]:
        """Tokens, and their log-probabilities as this kind of server tells them."""
        temperature = sampling["temperature"]
        generator = torch.Generator().manual_seed(seed)
        drawn: list[tuple[int, float]] = []
        cache, ids = None, prompt
        while len(drawn) < most and not (drawn and drawn[-1][0] in sampling["stop_token_ids"]):
            with self._computing:
                out = model(torch.tensor([ids]), past_key_values=cache, use_cache=True)
            cache, logits = out.past_key_values, out.logits[0, -1].double()
            if temperature == 0:
                token = int(logits.argmax())
            else:
                chances = torch.softmax(logits / temperature, -1)
                chances[chances < sampling["min_p"] * chances.max()] = 0
                token = int(torch.multinomial(chances, 1, generator=generator))
            scaled = logits / temperature if self.kind == "sglang" and temperature else logits
            drawn.append((token, float(torch.log_softmax(scaled, -1)[token])))
            ids = [token]
        return drawn

    async def _heard(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = await request.json()
        self.told.append((request.url.path, body))
        return body

    async def _fault(self, fault: Fault | None, request: Request) -> Response | None:
        if fault == "hang":
            await asyncio.sleep(1.0)
            return None
        if fault == "cut":
            return self._cut(request)
        assert isinstance(fault, int)
        return self._error("an error on demand", fault)

    def _cut(self, request: Request) -> Response:
        client = request.client
        for connection in list(self._server.server_state.connections):
            if client and connection.client == (client.host, client.port):  # type: ignore[union-attr]
                connection.transport.abort()  # type: ignore[union-attr]
        return Response()

    def _error(self, message: str, status: int) -> Response:
        if self.kind == "sglang":
            return JSONResponse({"success": False, "error_message": message}, 400 if status == 404 else status)
        return JSONResponse({"error": {"message": message, "type": "Error", "code": status}}, status)
