#!/bin/bash
# What submit_train_jobs.sh and submit_eval_jobs.sh begin with: their help, the folder, the environment.

words=" $* "
if [[ ${words%% -- *}\  == *" --help "* || ${words%% -- *}\  == *" -h "* ]]; then
    sed -n '2,/^[^#]/ { /^#/ s/^# \{0,1\}//p }' "$0"
    exit
fi

# a relative corpus counts from where the user is
if [[ -n ${REGISTER_CORPUS:-} ]]; then REGISTER_CORPUS=$(realpath -m -- "${REGISTER_CORPUS/#\~\//$HOME/}"); fi
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
source utils/load_env.sh
