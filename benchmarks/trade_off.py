"""Fair, calibrated and varied lists on the planted shop: what each strength costs and brings.

`python benchmarks/trade_off.py` writes benchmarks/results/trade_off.json and
docs/plots/trade_off.svg. 3,000 users, 800 items, the counting pipeline, views only, the validation
part; a strength would be chosen here and looked at once on the test part (`--part test`).
"""

import argparse
from pathlib import Path

from writing import write_result

from tailor.bench.trade_off import TradeOff
from tailor.core.run import Run
from tailor.pipeline.default import counting_pipeline
from tailor.worlds.shop import shop

PICTURE = Path(__file__).parents[1] / "docs" / "plots" / "trade_off.svg"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("valid", "test"), default="valid")
    part = parser.parse_args().part
    run = Run()
    data = shop(users=3000, items=800, seed=run.seed).data
    study = TradeOff(part=part, out=str(PICTURE) if part == "valid" else "")
    report = study.run(data, {"counting": counting_pipeline()}, run)
    print(report.text())
    figures = {"part": part, "tables": [table.rows for table in report.tables()]}
    figures["columns"] = report.tables()[0].columns
    print(write_result("trade_off", run.seed, "python benchmarks/trade_off.py", figures))


if __name__ == "__main__":
    main()
