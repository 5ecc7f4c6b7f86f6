# Two commands on a fresh machine: `make demo` and `make test`. Everything they need goes into .venv.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo demo-avstyle demo-robust test test-tfhub check format bench docs clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-11s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "avdata needs Python 3.11 or newer; try: make PYTHON=python3.12 ..."; exit 1; }
	@echo "making the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV) || uv venv --seed --python $(PYTHON) $(VENV) || \
	  { rm -rf $(VENV); echo "cannot make a virtual environment: install python3-venv or uv"; exit 1; }

$(VENV)/.data: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing avdata (about a minute)"
	@$(PIP) -e .
	@touch $@

$(VENV)/.train: $(VENV)/.data
	@echo "installing what training needs (a few minutes)"
	@$(PIP) -e '.[train,eval]'
	@touch $@

$(VENV)/.dev: $(VENV)/.train
	@echo "installing what the tests need"
	@$(PIP) -e '.[dev,cluster]'
	@touch $@

$(VENV)-tfhub/.ready: pyproject.toml constraints.txt
	@echo "installing avdata with TensorFlow Hub into $(VENV)-tfhub"
	@$(MAKE) --no-print-directory VENV=$(VENV)-tfhub $(VENV)-tfhub/.data
	@$(VENV)-tfhub/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt \
	  -e '.[tfhub]' hypothesis pytest pytest-timeout
	@touch $@

DEMO      := pipelines/demo.yaml
LOCALIZER := runs/demo/stages/train_localizer/localizer.onnx
STAGE     := $(BIN)/python -m stages.

# Data first, then Sound2Scene on them; each line goes on where it stopped, and skips what is done.
demo: $(VENV)/.data  ## make hiking videos, prepare them, learn from them, write a report (minutes)
	$(BIN)/avdata demo --output runs/demo --videos-per-kind 6
	@$(MAKE) --no-print-directory $(VENV)/.train
	$(STAGE)train_localizer $(DEMO)
	$(STAGE)evaluate_localizer $(DEMO)
	$(BIN)/avdata run $(DEMO) --set steps.shard.frames=picked \
	  --set steps.select.scorer=localizer --set steps.select.localizer=$(LOCALIZER)
	$(STAGE)train_image_encoder $(DEMO)
	$(STAGE)train_icgan $(DEMO)
	$(STAGE)train_sound2scene $(DEMO)
	$(STAGE)generate sound runs/demo-data/*_05.mp4 --run runs/demo -n 4 -o runs/demo/stages/generate
	$(STAGE)evaluate $(DEMO)
	$(STAGE)ablate $(DEMO)
	@$(BIN)/avdata report runs/demo

AVSTYLE   := pipelines/demo_avstyle.yaml
HEARD     := $(foreach kind,heavy_rain snow_steps ocean thunderstorm birds,runs/demo-data/$(kind)_05.mp4)
CONTENTS  := gravel_steps_05-00000000 stream_05-00004000 ocean_04-00004000 snow_steps_04-00008000 \
  birds_04-00004000
RESTYLE   := $(STAGE)generate
AS        := --run runs/demo --family avstyle

# Restyled pictures on what `make demo` has packed, held-out videos alone, into the same report.
demo-avstyle: $(VENV)/.train  ## after demo: restyle pictures by sounds, into the same report (minutes)
	@test -f runs/demo/shards/dataset.json || { echo "run make demo first"; exit 2; }
	$(STAGE)train_avstyle $(AVSTYLE)
	$(STAGE)train_avc $(AVSTYLE)
	$(STAGE)train_adain $(AVSTYLE)
	$(RESTYLE) sound $(HEARD) $(AS) --content $(CONTENTS) \
	  --title "AVStyle: pictures restyled by sounds" -o runs/demo/stages/restyled
	$(RESTYLE) sweep runs/demo-data/ocean_05.mp4 $(AS) --content $(CONTENTS) --gains-db -40 -20 -10 0 6 \
	  --title "AVStyle: surf, softer and louder" -o runs/demo/stages/restyled_louder
	$(RESTYLE) blend $(wordlist 1,2,$(HEARD)) $(AS) --content $(CONTENTS) \
	  --title "AVStyle: from rain to snow" -o runs/demo/stages/restyled_blend
	$(RESTYLE) film runs/demo-data/gravel_steps_05.mp4 $(AS) --by runs/demo-data/thunderstorm_05.mp4 \
	  --gains-db -20 0 --title "AVStyle: a film" -o runs/demo/stages/restyled_film
	$(STAGE)evaluate $(AVSTYLE)
	@$(BIN)/avdata report runs/demo

ROBUST    := pipelines/demo_robust.yaml
MOVED     := --run runs/demo --family sound_guided --move-steps 40 --move-lr 0.05 --reg-weight 0.01 \
  --psi 1 --invert-steps 100
SCENES    := gravel_steps_05-00000000 stream_05-00004000 ocean_04-00004000 snow_steps_04-00008000 \
  birds_04-00004000

# Scenes moved by sounds and by texts, held-out videos alone, into the same report.
demo-robust: $(VENV)/.train  ## after demo: move scenes by sounds and texts, into the same report (minutes)
	@test -f runs/demo/shards/dataset.json || { echo "run make demo first"; exit 2; }
	$(STAGE)train_clip $(ROBUST)
	$(STAGE)train_stylegan2 $(ROBUST)
	$(STAGE)train_sound_clip $(ROBUST)
	$(RESTYLE) sound $(HEARD) $(MOVED) -n 6 \
	  --title "Scenes moved by sounds" -o runs/demo/stages/moved
	$(RESTYLE) sound $(HEARD) $(MOVED) --content $(SCENES) \
	  --title "Frames of held-out videos, found again and moved by sounds" -o runs/demo/stages/moved_frames
	$(RESTYLE) text "heavy rain" "snow steps" ocean thunderstorm birds $(MOVED) -n 6 \
	  --title "The same scenes moved by texts" -o runs/demo/stages/moved_by_texts
	$(RESTYLE) sweep runs/demo-data/ocean_05.mp4 $(MOVED) -n 6 --gains-db -40 -20 -10 0 6 \
	  --title "Surf, softer and louder" -o runs/demo/stages/moved_louder
	$(RESTYLE) fuse runs/demo-data/birds_05.mp4 ocean $(MOVED) -n 6 --rows 5 \
	  --title "From a sound to a text" -o runs/demo/stages/moved_fused
	$(RESTYLE) stylemix runs/demo-data/snow_steps_05.mp4 thunderstorm $(MOVED) -n 6 \
	  --title "Coarse layers by a sound, fine ones by a text" -o runs/demo/stages/moved_mixed
	$(RESTYLE) mix runs/demo-data/heavy_rain_05.mp4 runs/demo-data/birds_05.mp4 $(MOVED) -n 6 \
	  --title "Rain and birds at once" -o runs/demo/stages/moved_several
	$(RESTYLE) trace runs/demo-data/thunderstorm_05.mp4 $(MOVED) -n 3 --frames 60 \
	  --title "The way of a scene toward thunder" -o runs/demo/stages/moved_way
	$(STAGE)evaluate $(ROBUST)
	$(STAGE)ablate $(ROBUST)
	@$(BIN)/avdata report runs/demo

test: $(VENV)/.dev  ## run all tests
	@$(BIN)/python -m pytest -n auto --maxprocesses 8 $(ARGS)

test-tfhub: $(VENV)-tfhub/.ready  ## run the TensorFlow Hub tests in an environment of their own
	@$(VENV)-tfhub/bin/python -m pytest -m tfhub tests/avdata/test_yamnet.py $(ARGS)

check: $(VENV)/.dev  ## lint, formatting, types, generated docs
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python docs/make_reference.py --check

format: $(VENV)/.dev  ## format the code and bring the generated docs up to date
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .
	@$(BIN)/python docs/make_reference.py

bench: $(VENV)/.dev  ## measure, as ratios to a floor or a peer in the same run
	@$(BIN)/python -m benchmarks $(ARGS)

clean:  ## remove environments and caches (not runs/)
	rm -rf $(VENV) $(VENV)-tfhub .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
