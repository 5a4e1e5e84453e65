# Everything a developer runs. Each target does its own set-up; the second time that is quick.
BIN := .venv/bin
CODE := src tests lab bench

.PHONY: demo test check bench setup python image format unit kernel daemon e2e clean

demo: image
	@$(BIN)/python -m lab.demo

test: image
	$(BIN)/pytest tests

unit: python
	$(BIN)/pytest tests/unit

kernel daemon: setup
	$(BIN)/pytest tests/$@ tests/zz_leftovers

e2e: image
	$(BIN)/pytest tests/e2e tests/zz_leftovers

check: python
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: python
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

bench: image
	$(BIN)/python -m bench

setup:
	@scripts/setup

python:
	@scripts/setup python

image: setup
	@$(BIN)/python -m lab.image

clean:
	rm -rf .venv .cache build dist
