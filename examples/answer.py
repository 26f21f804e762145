"""From two files to reranked, cited and judged answers about a dialogue, without a network.

`python examples/answer.py DOCUMENTS QUESTIONS`; without files it asks about a small dialogue.
"""

import json
import sys
import tempfile
from pathlib import Path

from tailor.data.passage_lists import documents_as_items, read_documents, read_questions
from tailor.evaluation.answers import judge_answers
from tailor.papers.reranking.e2rank import E2Rank
from tailor.papers.reranking.rankify import Rankify
from tailor.text.hashing import HashingEncoder

TURNS = [
    "Ann: I moved to Bergen last week! (7 May 2023)",
    "Joe: To Bergen? What about your flat in Oslo? (7 May 2023)",
    "Ann: My sister Mia rents it now. She starts at the hospital in June. (7 May 2023)",
    "Joe: I finally finished the oak boat. It weighs 1,200 kg. (20 June 2023)",
    "Ann: Will you sail it north to the islands? (20 June 2023)",
    "Joe: No, first to Hamburg, in August. (20 June 2023)",
]
QUESTIONS = {
    "Where did Ann move?": "Bergen",
    "Who rents the flat in Oslo?": "Mia",
    "How much does Joe's boat weigh?": "1,200 kg",
    "Where will Joe sail first?": "Hamburg",
}
folder = Path(tempfile.mkdtemp())
for name, rows in {
    "documents": [{"id": f"turn-{n}", "text": text} for n, text in enumerate(TURNS)],
    "questions": [{"text": text, "answers": [answer]} for text, answer in QUESTIONS.items()],
}.items():
    (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
files = sys.argv[1:] or [folder / "documents.jsonl", folder / "questions.jsonl"]

# from files to answers: leave out HashingEncoder() where `tailor models pull minilm` was run
documents, questions = read_documents(files[0]), read_questions(files[1])
reranker = E2Rank(encoder=HashingEncoder(), prior_weight=0.5)
rankify = Rankify(reranker=reranker).fit(documents_as_items(documents.values()))
retrieved = rankify.retrieve_missing(questions)
reranked = rankify.reorder(retrieved)
answers = rankify.answer(reranked)
for question, answer in zip(questions, answers, strict=True):
    print(question.question, "-", answer.text, [evidence.id for evidence in answer.evidence])
report = judge_answers([answer.text for answer in answers], retrieved, reranked, k=2)
for metric in report.values:
    print(metric, round(report.figure(metric).mean, 3))
