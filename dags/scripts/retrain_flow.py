"""Choose a learning rate. A Metaflow flow; by hand it runs the same, and records no runs but those of `fit`."""

from __future__ import annotations

from metaflow import FlowSpec, Parameter, retry, step

from wandb_airflow_provider.integrations.metaflow import wandb_flow


# [START flow]
@wandb_flow
class RetrainFlow(FlowSpec):
    steps = Parameter("steps", default=20)

    @step
    def start(self) -> None:
        self.rates = [0.05, 0.2]
        self.next(self.fit, foreach="rates")

    @retry(times=1)
    @step
    def fit(self) -> None:
        import wandb

        self.rate, slope = self.input, 0.0
        run = wandb.init(config={"rate": self.rate})
        for _ in range(self.steps):
            slope -= self.rate * 2 * sum((slope * x - 2 * x) * x for x in (0.0, 0.5, 1.0)) / 3
            run.log({"distance": abs(slope - 2.0)})
        self.distance = abs(slope - 2.0)
        self.next(self.choose)

    @step
    def choose(self, inputs: list[RetrainFlow]) -> None:
        self.best = min(inputs, key=lambda fitted: fitted.distance).rate
        self.next(self.end)

    @step
    def end(self) -> None:
        print(self.best)


# [END flow]

if __name__ == "__main__":
    RetrainFlow()
