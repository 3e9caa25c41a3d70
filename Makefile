# The commands of daily work; what they do is in scripts/.

.PHONY: help run test check generate setup

help: ## Say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

run: ## Start the demo: sample users, a bot and a page to chat in
	cargo run --release --locked -- demo

test: ## Run all tests on SQLite and on a private PostgreSQL, and those in the browser
	scripts/test.sh $(TESTS)

check: ## Formatting, lints, documentation, licences: what CI runs before the tests
	scripts/check.sh

generate: ## Write the generated files anew; a test fails while one is stale
	UPDATE_GENERATED=1 cargo test --locked --lib

setup: ## Only install what the tests need (`make test` does it by itself)
	scripts/setup-test.sh
