# Everything a developer runs. Each target does its own set-up; the second time that is quick.
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check bench setup format unit kernel daemon e2e clean

setup:
	@scripts/setup

demo: setup
	@$(BIN)/python -m lab.demo

test: setup
	$(BIN)/pytest tests

unit kernel daemon e2e: setup
	$(BIN)/pytest tests/$@

check: setup
	$(BIN)/ruff format --check src tests lab bench
	$(BIN)/ruff check src tests lab bench
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format src tests lab bench
	$(BIN)/ruff check --fix src tests lab bench

bench: setup
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) .cache build dist
