"""The mistake: a file that is opened for each piece of work and never closed. Long before 80 % of
the limit are used it is clear when none will be left. It has been at a level before: a program that
has only just begun to open files may be starting up.
Reported: descriptor leaks that show after weeks, as EMFILE at night."""

import resource

import stage

resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
stage.go()
kept = [open("/dev/null") for _ in range(300)]
stage.time.sleep(75)
stage.say("leaked")
while len(kept) < 800:
    kept.append(open("/dev/null"))
    stage.time.sleep(0.4)
stage.rest()
