"""Ten lines: from a log to recommendations for a known user, a stranger with a history, a stranger
without one.
"""

import tailor
from tailor.testing.data import tiny_data

# yours: tailor.Dataset.open("DATA"), made by `tailor data import`, or Dataset.from_events({...})
data = tiny_data()
split = tailor.last_out(data)
model = tailor.default_pipeline().fit(split.train, valid=split)
report = tailor.evaluate({"default": model}, split)
print({seen: round(report.mean("default", "NDCG@10", seen), 3) for seen in ("removed", "kept")})

known = split.train.queries(["person-001"])[0]
stranger = tailor.Query(history=tailor.History.of("thing-004", "thing-008"))
nobody = tailor.Query()
for query, ranking in zip(
    (known, stranger, nobody), model.recommend([known, stranger, nobody], k=5), strict=True
):
    why = model.explain([query], [ranking])[0][0]
    print(ranking.ids, "because of", [(one.id, round(one.share, 2)) for one in why.evidence[:2]])
