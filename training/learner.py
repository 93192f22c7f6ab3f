"""From groups to the next version of a policy.

Everything a step does follows from the version it starts from, its groups and the seed: it can be redone
after a crash, by another process, and comes out the same to the byte (on a processor).
"""

import time
from collections.abc import Mapping
from pathlib import Path
from random import Random

import torch

from ..configs.models import ModelSettings
from ..configs.roles import TrainerSettings
from ..messages.adapters import AdapterRef, Policy
from ..messages.trajectories import StepReport, TrainStep
from .adapter_files import sha256_hex
from .batching import Sample, TokenBatch, micro_batches, mini_batches
from .checkpoints import Checkpoint, CheckpointStore
from .errors import CheckpointMissing
from .lora import seeded
from .methods.base import TrainingMethod
from .methods.grpo import Grpo
from .policy_models import PolicyModels
from .updates import PolicyOptimizer, StepMetrics, run_updates


class Learner:
    """Trains LoRA adapters on one base model, one version at a time. Blocking, and for one thread only.

    `policies` names the policies that it trains and the temperature at which each is sampled. They share
    the base model's memory. `folder` is the run's folder.

    >>> learner = Learner(model, settings, {"student": 1.0}, Path("runs/a"), seed=7)  # doctest: +SKIP
    >>> learner.start()                                                              # doctest: +SKIP
    >>> report = learner.step(TrainStep(policy="student", version=0, groups=groups)) # doctest: +SKIP
    >>> report.adapter.name                                                          # doctest: +SKIP
    'student-v1'
    """

    def __init__(
        self,
        model: ModelSettings,
        settings: TrainerSettings,
        policies: Mapping[Policy, float],
        folder: Path,
        seed: int,
    ) -> None:
        self._model = model
        self._settings = settings
        self._temperatures = dict(policies)
        self._seed = seed
        self._method: TrainingMethod = Grpo(settings.method)
        self._stores = {
            policy: CheckpointStore(folder, policy, settings.keep_checkpoints) for policy in policies
        }
        self._loaded_version: dict[Policy, int | None] = dict.fromkeys(policies, 0)
        self._optimizers: dict[Policy, PolicyOptimizer] = {}
        self._policies: PolicyModels | None = None
        self.skipped_updates = 0
        """Updates left out so far because their loss or gradient was not finite."""

    def start(self) -> None:
        """Load the base model and make version 0 of each policy. Raises CannotLoadModel, SettingsError."""
        torch.set_num_threads(self._settings.threads)
        policies = PolicyModels(self._model, self._settings, self._temperatures, self._seed)
        self._optimizers = {
            policy: PolicyOptimizer(policies.parameters(policy), self._settings)
            for policy in self._temperatures
        }
        self._policies = policies

    def step(self, message: TrainStep) -> StepReport:
        """Make `version + 1`, durable before this returns; or answer from it where that was done before.

        Groups that teach nothing are left out; if all do, the new version has the weights of the old one.
        Raises CheckpointMissing, CheckpointNotWritten, TrainingDiverged, UnusableTrajectory. After an
        error the next step starts from its version's checkpoint, so that a failed one leaves no trace.
        """
        policies = self._started()
        policy, version = message.policy, message.version
        store = self._stores[policy]
        group_ids = tuple(group.group_id for group in message.groups)
        done = store.load(version + 1)
        if done is not None and set(done.group_ids) == set(group_ids):
            return done.report
        began = time.monotonic()
        torch.set_num_threads(self._settings.threads)  # the caller's thread may be a new one
        self._load_version(policies, policy, version)
        samples = self._method.samples(message.groups)
        self._loaded_version[policy] = None
        measured = self._train(policies, policy, version, samples)
        self.skipped_updates += measured.skipped
        groups_used = len({sample.trajectory.group_id for sample in samples})
        report = self._report(policies, policy, version + 1, measured, groups_used, began)
        optimizer = self._optimizers[policy]
        store.save(Checkpoint(report, group_ids, optimizer.updates, optimizer.to_bytes()))
        self._loaded_version[policy] = version + 1
        return report

    def _started(self) -> PolicyModels:
        if self._policies is None:
            raise RuntimeError("the learner has no model yet: call start() first")
        return self._policies

    def _load_version(self, policies: PolicyModels, policy: Policy, version: int) -> None:
        """Have this version's weights and optimizer in memory."""
        if self._loaded_version[policy] == version:
            return
        weights, moments, updates = None, None, 0
        if version > 0:
            found = self._stores[policy].load(version)
            if found is None:
                raise CheckpointMissing(
                    f"the {policy}'s version {version} has no complete checkpoint; those kept are "
                    f"{self._stores[policy].versions() or 'none'}. Resume from one of them, and keep more "
                    "with trainer.keep_checkpoints"
                )
            weights, moments, updates = found.report.weights, found.optimizer, found.updates
        policies.restore(policy, weights)
        self._optimizers[policy].restore(moments, updates)
        self._loaded_version[policy] = version

    def _train(
        self, policies: PolicyModels, policy: Policy, version: int, samples: list[Sample]
    ) -> StepMetrics:
        if self._settings.simulate_s is not None:
            time.sleep(self._settings.simulate_s)
            return StepMetrics()
        seed_key = f"{self._seed}:{policy}:{version}"
        parts: list[list[TokenBatch]] = [
            micro_batches(part, version, self._settings.micro_batch_tokens)
            for part in mini_batches(samples, self._settings.updates_per_step, Random(seed_key))
        ]
        with seeded(seed_key):
            return run_updates(
                policies, policy, self._method, self._optimizers[policy], [part for part in parts if part]
            )

    def _report(
        self,
        policies: PolicyModels,
        policy: Policy,
        version: int,
        measured: StepMetrics,
        groups_used: int,
        began: float,
    ) -> StepReport:
        config_json, weights = policies.export(policy)
        folder = self._stores[policy].adapter_folder(version)
        adapter = AdapterRef(policy=policy, version=version, sha256=sha256_hex(weights), folder=str(folder))
        updates, tokens = max(1, measured.updates), max(1, measured.tokens)
        return StepReport(
            adapter=adapter,
            config_json=config_json,
            weights=weights,
            loss=measured.loss / updates,
            kl_to_base=None if measured.kl is None else measured.kl / tokens,
            clip_fraction=measured.clipped / tokens,
            entropy=measured.nll / tokens,
            grad_norm=measured.grad_norm / updates,
            tokens=measured.tokens,
            groups_used=groups_used,
            train_s=time.monotonic() - began,
        )
