"""A plain FastAPI + uvicorn service around the same ranker: what one would write in an afternoon, without assignment or log.

`/json` takes the candidates' 64 numbers each as JSON (pydantic), `/raw` as float32 bytes; `/ids` gathers encoded rows by id.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, Request
from pydantic import BaseModel

from core.artefacts import ArtefactStore
from core.logs import LoggedDataset
from ranker.predictor import Encoded, Predictor

PAGE = 20


class JsonBody(BaseModel):
    """Candidates with their numbers, `[n, 64]`."""

    user_id: int
    item_ids: list[int]
    features: list[list[float]]


class IdsBody(BaseModel):
    """Candidates by id."""

    user_id: int
    candidates: list[int]


def make(folder: Path) -> FastAPI:
    """The service over the bench's own world."""
    torch.set_num_threads(1)
    predictor = Predictor.load(ArtefactStore(folder / "artefacts").find("ranker/bench"))
    users = predictor.encode("user", LoggedDataset.from_parquet(folder / "users.parquet").columns)
    items = predictor.encode("item", LoggedDataset.from_parquet(folder / "items.parquet").columns)
    powers = np.linspace(0.5, 1.5, len(predictor.scored))
    app = FastAPI()

    def answer(user_id: int, ids: Any, encoded: Encoded) -> dict[str, Any]:
        scores = predictor.score_encoded(users.take(np.array([user_id])), None, encoded)
        final = np.log(scores + 0.01) @ powers
        top = np.argsort(-final)[:PAGE]
        return {"items": [{"item_id": int(ids[i]), "final": float(final[i])} for i in top]}

    @app.post("/json")
    async def ranked_json(body: JsonBody) -> dict[str, Any]:
        x = torch.from_numpy(np.asarray(body.features, np.float32))
        return answer(body.user_id, body.item_ids, Encoded("item", x))

    @app.post("/raw")
    async def ranked_raw(request: Request, user_id: int) -> dict[str, Any]:
        x = torch.frombuffer(bytearray(await request.body()), dtype=torch.float32).view(-1, items.x.shape[1])
        return answer(user_id, range(len(x)), Encoded("item", x))

    @app.post("/ids")
    async def ranked_ids(body: IdsBody) -> dict[str, Any]:
        ids = np.asarray(body.candidates)
        return answer(body.user_id, ids, items.take(ids))

    return app


if __name__ == "__main__":
    uvicorn.run(make(Path(sys.argv[1])), port=int(sys.argv[2]), log_level="warning", access_log=False)
