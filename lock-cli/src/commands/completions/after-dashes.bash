
# After `--` it is another command's turn: its name, and then what its own completion says, where the
# package bash-completion is installed, or else files.
_turnlock_or_command() {
    local i
    for ((i = 1; i < COMP_CWORD; i++)); do
        [[ ${COMP_WORDS[i]} == -- ]] || continue
        COMPREPLY=()
        if ((i + 1 == COMP_CWORD)); then
            mapfile -t COMPREPLY < <(compgen -c -- "$2")
        elif declare -F _command_offset >/dev/null; then
            _command_offset $((i + 1))
        fi
        return 0
    done
    _turnlock "$@"
}
complete -F _turnlock_or_command -o bashdefault -o default turnlock
