
# After `--` it is another command's turn: its name, and then what its own completion says.
function __fish_turnlock_command
    set -l words (commandline -opc)
    set -l dashes (contains -i -- -- $words)
    set -l command (string escape -- $words[(math $dashes + 1)..-1])
    complete --do-complete=(string join ' ' -- $command (commandline -ct))
end
complete -c turnlock -n 'contains -- -- (commandline -opc)' -x -a '(__fish_turnlock_command)'
