"""The mistake: a file that is opened for each piece of work and never closed. Long before 80 % of
the limit are used it is clear when none will be left.
Reported: descriptor leaks that show after weeks, as EMFILE at night."""

import resource

import stage

resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
stage.go()
stage.say("leaked")
kept = []
while len(kept) < 700:
    kept.append(open("/dev/null"))
    stage.time.sleep(0.4)
stage.rest()
