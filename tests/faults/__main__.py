"""``python -m tests.faults`` writes ``docs/faults.md`` anew."""

from tests.faults.rows import TABLE, all_rows, table

TABLE.write_text(table(), encoding="utf-8")
print(f"{TABLE}: {sum(map(len, all_rows().values()))} faults")
