"""MLflow's model registry: networks put there without pickle."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn

from rem_study.data import Dataset
from rem_study.tracking.client import make_client
from rem_study.tracking.errors import tracking_errors


class ServedNetwork(nn.Module):
    """Images (B, C, H, W), float32 in [0, 1], to logits (B, classes): normalises as in training."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, dataset: Dataset) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", dataset.mean.cpu())
        self.register_buffer("std", dataset.std.cpu())

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits


class RegistryClient:
    """The registry of one MLflow store; every failure of MLflow's is a TrackingError of one line."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._client = make_client(uri)

    def version_of(self, name: str, tags: dict[str, str]) -> str | None:
        """The version that carries these tags, if there is one."""
        with tracking_errors(self._uri):
            versions = self._client.search_model_versions(f"name = '{name}'")
        return next((str(v.version) for v in versions if tags.items() <= v.tags.items()), None)

    def alias(self, name: str, alias: str, version: str) -> None:
        """Let `models:/NAME@ALIAS` be this version."""
        with tracking_errors(self._uri):
            self._client.set_registered_model_alias(name, alias, version)

    def log(self, network: nn.Module, example: Any, name: str, run_id: str | None, tags: dict[str, str]) -> str:
        """Save a network as a model of the run `run_id` and register it; returns its version."""
        import mlflow
        import numpy as np
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        with torch.no_grad():
            classes = network(torch.from_numpy(example)).shape[1]
        signature = ModelSignature(
            inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, *example.shape[1:]))]),
            outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, classes))]),
        )
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        with tracking_errors(self._uri):
            mlflow.set_tracking_uri(self._uri)
            mlflow.set_registry_uri(self._uri)
            before = self._client.get_run(run_id) if run_id else None
            with mlflow.start_run(run_id=run_id):
                logged = mlflow.pytorch.log_model(
                    network,
                    name="model",
                    signature=signature,
                    input_example=example,
                    serialization_format="pt2",
                    registered_model_name=name,
                    pip_requirements=[f"mlflow=={mlflow.__version__}", f"torch=={torch.__version__}"],
                )
            if before is not None:  # the run ended when its trial did
                self._client.set_terminated(run_id, before.info.status, before.info.end_time)
            version = str(logged.registered_model_version)
            for key, value in tags.items():
                self._client.set_model_version_tag(name, version, key, value)
        return version
