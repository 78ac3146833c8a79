"""Which source answers: pure functions of plain data; the advisor reads their inputs. Standard library only."""
