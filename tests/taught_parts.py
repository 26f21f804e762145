"""What a method that learns rewards in `fit` is taught on: never what the fit validates on."""

from tailor.core.run import Run
from tailor.data.splits import inner_cut, last_out
from tailor.generative.speller import Speller


def check_taught_parts(fitted, teach, data, monkeypatch):
    """Check on which part a fitted speller's method `teach` is called by `fit`.

    `data` has impressions, and a request for each.
    """
    run = Run(workers=1, dtype="float32")
    taught_on = []

    def noting(self, part, run):
        taught_on.append(part)
        return self

    monkeypatch.setattr(type(fitted), teach, noting)
    monkeypatch.setattr(Speller, "_fit", lambda *arguments: None)  # `fitted` is
    method = fitted._with_state()
    method.rounds = 1
    split = last_out(data)
    for patience, part, valid in ((None, data, None), (1, data, None), (1, split.train, split)):
        method.patience = patience
        method._fit(part, run, valid)
    method.rounds = 0
    method._fit(data, run, None)  # nothing is taught
    events = [len(part.events) for part in taught_on]
    assert events == [len(data.events), len(data.events) - len(data.users), len(split.train.events)]
    lengths = taught_on[1].sequences.rows.lengths
    assert (lengths == data.sequences.rows.lengths - 1).all()
    # the lists that were shown for what is held out are not learned from either
    hidden = inner_cut(data, run.seed)
    assert taught_on[1].tables["requests"].equals(hidden.train.tables["requests"])
