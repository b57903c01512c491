------------------------------ MODULE OutboxLane ------------------------------
(* One lane of the outbox, two instances of the daemon, one database and one     *)
(* broker. README.md beside this file says in plain words what is modelled.      *)
(*                                                                               *)
(* An action of the daemon bears the name of the function that does it; the line *)
(* above it says where that is. tests/spec/test_spec.py holds them together.     *)
EXTENDS Naturals, FiniteSets, TLC

CONSTANTS
    Instances,      \* two of them
    Events,         \* their ids: 1..3
    FirstOfOthers,  \* events below this id share an aggregate, the rest share another
    MaxAttempts,    \* retry.max_attempts
    MaxTroubles,    \* how many things may go wrong, of any kind
    Unanswered,     \* whether the answer to a promotion's COMMIT may be lost
    TornRead,       \* whether a read that was not of one moment is used all the same
    Mutation        \* "none", or the rule that is broken

Aggregate(e) == IF e < FirstOfOthers THEN 1 ELSE 2
Holders == IF Mutation = "lane_in_two_batches" THEN {"relay", "relay2"} ELSE {"relay"}

VARIABLES
    \* The database.
    status,      \* of each row: "none" is not committed, "dead" stands in outbox_deadletters
    attempts,    \* attempt_count
    lease,       \* each instance's row in outbox_instances: "none", "live", "expired"
    owner,       \* the lane's, in outbox_lanes: an instance or "nobody"
    pending,     \* a promotion whose COMMIT the server has and the instance got no answer to
    \* The instances.
    process,     \* "running" or "stopped" (SIGSTOP)
    belief,      \* in its lease: "none", "trusted", "lapsed"
    batch,       \* what each holder of the lane has in memory
    reserved,    \* the due events of a promotion that is under way; {} for none
    \* The broker, and the network before it.
    delivered,   \* events that stand in the topic
    late,        \* what a socket that is closed may still bring
    poison,      \* events that the broker refuses for ever
    \* History.
    reordered,   \* whether a first delivery was out of order
    troubles     \* how many things may still go wrong

vars == <<status, attempts, lease, owner, pending, process, belief, batch, reserved,
          delivered, late, poison, reordered, troubles>>
database == <<status, attempts, lease, owner, pending>>
broker == <<delivered, late, poison, reordered>>

Nothing == [stage |-> "idle", seen |-> {}, blocked |-> {}, rest |-> {}, wire |-> {}, acked |-> {},
            failed |-> {}, refused |-> {}, waiting |-> {}]

Init ==
    /\ status = [e \in Events |-> "none"]
    /\ attempts = [e \in Events |-> 0]
    /\ lease = [i \in Instances |-> "live"]
    /\ owner = "nobody"
    /\ pending = [i \in Instances |-> {}]
    /\ process = [i \in Instances |-> "running"]
    /\ belief = [i \in Instances |-> "trusted"]
    /\ batch = [i \in Instances |-> [h \in Holders |-> Nothing]]
    /\ reserved = [i \in Instances |-> {}]
    /\ delivered = {}
    /\ late = {}
    /\ poison \in {{}, {1}}
    /\ reordered = FALSE
    /\ troubles = MaxTroubles - Cardinality(poison)

-------------------------------------------------------------------------------
Rows(s) == {e \in Events : status[e] = s}
Running(i) == process[i] = "running"
Trusts(i) == Running(i) /\ belief[i] = "trusted"
Owns(i) == Trusts(i) /\ owner = i
Idle(i) == reserved[i] = {} /\ \A h \in Holders : batch[i][h] = Nothing
Alive(i) == lease[i] = "live"
Fenced(i) == Alive(i) \/ Mutation = "unfenced_retry"
Trouble == troubles > 0 /\ troubles' = troubles - 1

\* The first events of a set: as many as one likes, but at least one.
Prefixes(s) == {{e \in s : e <= last} : last \in s}

\* Of what is `seen`, that which has to be delivered before the last of a group is.
Owed(group, seen) ==
    {o \in seen \ (group \cup delivered) : \E e \in group : o < e /\ Aggregate(o) = Aggregate(e)}

\* A group reaches the topic, in order, whole. Repeats change nothing.
Append(group, owed) ==
    /\ delivered' = delivered \cup group
    /\ reordered' = (reordered \/ \E e \in group \ delivered : \E o \in owed \ (delivered \cup poison) :
                        o < e /\ status[o] \notin {"error", "dead"})

\* What was handed to a socket that is closed now may still arrive, unless it is a repeat for certain.
Drifting(bs) ==
    UNION {{[events |-> g.events, owed |-> Owed(g.events, b.seen)] :
               g \in {w \in b.wire : ~w.stored /\ ~(w.events \subseteq delivered \cup poison)}} : b \in bs}

\* The rows that a batch is at work on.
InFlight(b) ==
    b.rest \cup UNION {g.events : g \in b.wire} \cup b.acked \cup b.failed \cup b.refused \cup {w[1] : w \in b.waiting}

Put(i, h, b) == batch' = [batch EXCEPT ![i][h] = b]

\* A batch of which nothing is left to write is gone, and its lane is free.
Settled(b) ==
    IF b.stage = "settle" /\ b.acked = {} /\ b.failed = {} /\ b.refused = {} /\ b.waiting = {} THEN Nothing ELSE b

\* When nothing is left to send, and no answer is awaited, the batch is to be settled.
Published(b) ==
    IF b.rest = {} /\ b.wire = {} THEN Settled([b EXCEPT !.stage = "settle", !.seen = {}])
    ELSE [b EXCEPT !.seen = {o \in @ \ delivered : \E e \in b.rest \cup UNION {g.events : g \in b.wire} :
                                               o < e /\ Aggregate(o) = Aggregate(e)}]

-------------------------------------------------------------------------------
(* Everybody else *)

\* The application. Ids were taken before: an older one may commit later.
commit(e) ==
    /\ status[e] = "none"
    /\ status' = [status EXCEPT ![e] = "new"]
    /\ UNCHANGED <<attempts, lease, owner, pending, process, belief, batch, reserved, broker, troubles>>

\* The operator: what stands in the dead letters is committed once more, so earlier reads owe it nothing.
requeue(e) ==
    /\ Trouble
    /\ status[e] = "dead"
    /\ status' = [status EXCEPT ![e] = "new"]
    /\ attempts' = [attempts EXCEPT ![e] = 0]
    /\ batch' = [i \in Instances |-> [h \in Holders |-> [batch[i][h] EXCEPT !.seen = @ \ {e}]]]
    /\ late' = {[g EXCEPT !.owed = @ \ {e}] : g \in late}
    /\ UNCHANGED <<lease, owner, pending, process, belief, reserved, delivered, poison, reordered>>

\* The broker stores what an instance has sent; the answer is under way, and may be lost.
broker_append(i, h) ==
    \E g \in batch[i][h].wire :
        /\ ~g.stored /\ g.events \cap poison = {}
        /\ Append(g.events, Owed(g.events, batch[i][h].seen))
        /\ Put(i, h, [batch[i][h] EXCEPT !.wire = (@ \ {g}) \cup {[g EXCEPT !.stored = TRUE]}])
        /\ UNCHANGED <<database, process, belief, reserved, late, poison, troubles>>

\* The network: what a dead or stalled owner had handed to its socket arrives, or it never does.
late_arrival ==
    \E g \in late :
        /\ Append(g.events, g.owed)
        /\ late' = late \ {g}
        /\ UNCHANGED <<database, process, belief, batch, reserved, poison, troubles>>

\* kill -9, and a new process. The lease of the old one is left to expire.
crash(i) ==
    /\ Trouble
    /\ owner = i \/ ~Idle(i)  \* else it makes no difference
    /\ process' = [process EXCEPT ![i] = "running"]
    /\ belief' = [belief EXCEPT ![i] = "none"]
    /\ late' = late \cup Drifting({batch[i][h] : h \in Holders})
    /\ batch' = [batch EXCEPT ![i] = [h \in Holders |-> Nothing]]
    /\ reserved' = [reserved EXCEPT ![i] = {}]
    /\ UNCHANGED <<database, delivered, poison, reordered>>

\* SIGSTOP
pause(i) ==
    /\ Trouble
    /\ Trusts(i) /\ ~Idle(i)  \* else it makes no difference
    /\ process' = [process EXCEPT ![i] = "stopped"]
    /\ UNCHANGED <<database, belief, batch, reserved, broker>>

\* SIGCONT. Its clock went on meanwhile.
resume(i) ==
    /\ process[i] = "stopped"
    /\ process' = [process EXCEPT ![i] = "running"]
    /\ belief' = [belief EXCEPT ![i] = IF Alive(i) THEN @ ELSE "lapsed"]
    /\ UNCHANGED <<database, batch, reserved, broker, troubles>>

\* Time: an owner stops trusting its lease before the database does, so it has lapsed by now.
ttl_passes(i) ==
    /\ Alive(i) /\ ~Trusts(i)
    /\ lease' = [lease EXCEPT ![i] = "expired"]
    /\ UNCHANGED <<status, attempts, owner, pending, process, belief, batch, reserved, broker, troubles>>

\* The server finishes a promotion whose client has gone, or rolls it back.
server_commits(i) ==
    /\ pending[i] # {}
    /\ status' = [e \in Events |-> IF e \in pending[i] /\ status[e] = "retry" THEN "new" ELSE status[e]]
    /\ pending' = [pending EXCEPT ![i] = {}]
    /\ UNCHANGED <<attempts, lease, owner, process, belief, batch, reserved, broker, troubles>>

server_rolls_back(i) ==
    /\ pending[i] # {}
    /\ pending' = [pending EXCEPT ![i] = {}]
    /\ UNCHANGED <<status, attempts, lease, owner, process, belief, batch, reserved, broker, troubles>>

-------------------------------------------------------------------------------
(* Leases *)

\* outboxd.store.leases.MySqlLeaseStore.register
register(i) ==
    /\ Running(i) /\ belief[i] # "trusted" /\ lease[i] = "none"
    /\ Idle(i)  \* LeaseKeeper.run_once waits for it
    /\ lease' = [lease EXCEPT ![i] = "live"]
    /\ belief' = [belief EXCEPT ![i] = "trusted"]
    /\ UNCHANGED <<status, attempts, owner, pending, process, batch, reserved, broker, troubles>>

\* outboxd.workers.lease.Lease.trusted
trusted_lapses(i) ==
    /\ Trouble
    /\ Trusts(i) /\ ~Idle(i)  \* else it makes no difference
    /\ belief' = [belief EXCEPT ![i] = "lapsed"]
    /\ UNCHANGED <<database, process, batch, reserved, broker>>

\* outboxd.store.leases.MySqlLeaseStore.renew
renew(i) ==
    /\ Running(i) /\ belief[i] = "lapsed" /\ Alive(i)
    /\ belief' = [belief EXCEPT ![i] = "trusted"]
    /\ UNCHANGED <<database, process, batch, reserved, broker, troubles>>

\* outboxd.store.leases.MySqlLeaseStore.evict_expired
evict_expired(i, gone) ==
    /\ Running(i) /\ (i # gone \/ Idle(i))
    /\ lease[gone] = "expired"
    /\ pending[gone] = {}  \* a fenced write under way holds the row: SKIP LOCKED
    /\ lease' = [lease EXCEPT ![gone] = "none"]
    /\ owner' = IF owner = gone THEN "nobody" ELSE owner
    /\ UNCHANGED <<status, attempts, pending, process, belief, batch, reserved, broker, troubles>>

\* outboxd.store.leases.MySqlLeaseStore.take
take(i) ==
    /\ Trusts(i) /\ Alive(i)
    /\ owner = "nobody"
    /\ owner' = i
    /\ UNCHANGED <<status, attempts, lease, pending, process, belief, batch, reserved, broker, troubles>>

\* outboxd.store.leases.MySqlLeaseStore.give_back
give_back(i) ==
    /\ Trouble
    /\ Owns(i) /\ Idle(i)
    /\ owner' = "nobody"
    /\ UNCHANGED <<status, attempts, lease, pending, process, belief, batch, reserved, broker>>

-------------------------------------------------------------------------------
(* The way of a batch *)

\* What a read at this moment finds: the first rows, and what it knows of.
Found(rows) == [Nothing EXCEPT !.stage = "read", !.rest = rows, !.blocked = Rows("retry"),
                               !.seen = (Rows("new") \cup Rows("retry")) \ delivered]

\* outboxd.store.events.MySqlEventReader.read
read(i, h) ==
    /\ Owns(i)
    /\ IF Mutation = "lane_in_two_batches" THEN batch[i][h] = Nothing /\ reserved[i] = {} ELSE Idle(i)
    /\ \E rows \in Prefixes(Rows("new") \ UNION {InFlight(batch[i][other]) : other \in Holders}) :
           Put(i, h, Found(rows))
    /\ UNCHANGED <<database, process, belief, reserved, broker, troubles>>

\* What is behind a blocking row is held.
Compared(b) ==
    LET Blocks(e) == {p \in Rows("retry") : p < e /\ Aggregate(p) = Aggregate(e)}
        held == {e \in b.rest : Blocks(e) # {}}
        First(s) == CHOOSE p \in s : \A q \in s : p <= q
    IN Published([b EXCEPT !.stage = "publish", !.blocked = {}, !.rest = @ \ held,
                           !.waiting = {<<e, First(Blocks(e))>> : e \in held}])

\* outboxd.store.events.MySqlEventReader._standing
standing(i, h) ==
    LET b == batch[i][h] IN
    /\ Running(i) /\ b.stage = "read"
    /\ IF TornRead \/ b.blocked = Rows("retry") THEN Put(i, h, Compared(b))
       ELSE IF Rows("new") = {} THEN Put(i, h, Nothing)
       ELSE \E rows \in Prefixes(Rows("new")) : Put(i, h, Compared(Found(rows)))
    /\ UNCHANGED <<database, process, belief, reserved, broker, troubles>>

\* outboxd.sinks.kafka.partition.Lot._hand_over
hand_over(i, h) ==
    LET b == batch[i][h] IN
    /\ Trusts(i) /\ b.stage = "publish"
    /\ \E a \in {1, 2} :
        LET lot == {e \in b.rest : Aggregate(e) = a} IN
        /\ \A g \in b.wire : \A e \in g.events : Aggregate(e) # a
        /\ \E group \in Prefixes(lot) :
            /\ group \cap poison = {} \/ Cardinality(group) = 1  \* a refused group is halved until this is so
            /\ Put(i, h, [b EXCEPT !.rest = @ \ group, !.wire = @ \cup {[events |-> group, stored |-> FALSE]}])
    /\ UNCHANGED <<database, process, belief, reserved, broker, troubles>>

\* outboxd.sinks.kafka.partition.Lot.look
look(i, h) ==
    LET b == batch[i][h] IN
    /\ Running(i)
    /\ \E g \in b.wire :
        /\ g.stored
        /\ Put(i, h, Published([b EXCEPT !.wire = @ \ {g}, !.acked = @ \cup g.events]))
    /\ UNCHANGED <<database, process, belief, reserved, broker, troubles>>

\* outboxd.sinks.kafka.partition.Lot.split
split(i, h) ==
    LET b == batch[i][h] IN
    /\ Running(i)
    /\ \E g \in b.wire :
        /\ g.events \cap poison # {}
        /\ Put(i, h, Published([b EXCEPT !.wire = @ \ {g}, !.refused = @ \cup g.events]))
    /\ UNCHANGED <<database, process, belief, reserved, broker, troubles>>

\* outboxd.sinks.kafka.partition.Lot.without
without(i, h) ==
    LET b == batch[i][h] IN
    /\ Trouble
    /\ Running(i)
    /\ \E g \in b.wire : \E e \in g.events :
        LET behind == {later \in b.rest : Aggregate(later) = Aggregate(e)} IN
        /\ ~g.stored /\ g.events = {e} /\ e \notin poison
        /\ Put(i, h, Published([b EXCEPT !.wire = @ \ {g}, !.failed = @ \cup {e}, !.rest = @ \ behind,
                                         !.waiting = @ \cup {<<later, e>> : later \in behind}]))
    /\ UNCHANGED <<database, process, belief, reserved, broker>>

\* outboxd.sinks.kafka.producer.ProducerPool.retire
retire(i, h) ==
    LET b == batch[i][h] IN
    /\ Running(i) /\ b.stage = "publish"
    /\ IF Trusts(i) THEN Trouble ELSE UNCHANGED troubles
    /\ late' = late \cup Drifting({b})
    /\ LET guessed == IF Mutation = "unknown_is_sent" THEN UNION {g.events : g \in b.wire} ELSE {} IN
       Put(i, h, Published([b EXCEPT !.wire = {}, !.rest = {}, !.acked = @ \cup guessed]))
    /\ UNCHANGED <<database, process, belief, reserved, delivered, poison, reordered>>

\* The answer to a write that was done is lost: the writer does it again.
Answered(after, before) == (UNCHANGED troubles /\ batch' = after) \/ (Trouble /\ batch' = before)

\* outboxd.store.events.MySqlSettler.sent
sent(i, h) ==
    LET b == batch[i][h] IN
    /\ Running(i) /\ b.stage = "settle" /\ b.acked # {}
    /\ status' = [e \in Events |-> IF e \in b.acked /\ status[e] = "new" THEN "sent" ELSE status[e]]
    /\ Answered([batch EXCEPT ![i][h] = Settled([b EXCEPT !.acked = {}])], batch)
    /\ UNCHANGED <<attempts, lease, owner, pending, process, belief, reserved, broker>>

\* outboxd.store.events.MySqlSettler.reject
reject(i, h) ==
    LET b == batch[i][h]
        New(s) == {e \in s : status[e] = "new"}
        gone == New(b.refused) \cup {e \in New(b.failed) : attempts[e] + 1 >= MaxAttempts}
        retried == New(b.failed) \ gone
        held == {e \in Rows("new") : \E p \in (Rows("retry") \cup retried) : <<e, p>> \in b.waiting}
    IN
    /\ Running(i) /\ b.stage = "settle" /\ b.acked = {} /\ b # Nothing
    /\ IF Fenced(i)
       THEN /\ status' = [e \in Events |-> IF e \in gone THEN "error"
                                           ELSE IF e \in retried \cup held THEN "retry" ELSE status[e]]
            /\ attempts' = [e \in Events |-> IF e \in New(b.failed) THEN attempts[e] + 1 ELSE attempts[e]]
            /\ Answered([batch EXCEPT ![i][h] = Nothing], batch)
       ELSE Put(i, h, Nothing) /\ UNCHANGED <<status, attempts, troubles>>
    /\ UNCHANGED <<lease, owner, pending, process, belief, reserved, broker>>

-------------------------------------------------------------------------------
(* Upkeep *)

\* outboxd.lanes.LaneBook.reserve
reserve(i) ==
    /\ Owns(i) /\ reserved[i] = {}
    /\ Mutation = "promotion_while_busy" \/ Idle(i)
    /\ \E due \in SUBSET Rows("retry") \ {{}} : reserved' = [reserved EXCEPT ![i] = due]
    /\ UNCHANGED <<database, process, belief, batch, broker, troubles>>

\* outboxd.store.upkeep.MySqlUpkeep.promote
promote(i) ==
    /\ Running(i) /\ reserved[i] # {}
    /\ \A other \in Instances : pending[other] \cap reserved[i] = {}  \* rows that are locked are waited for
    /\ IF Fenced(i)
       THEN status' = [e \in Events |-> IF e \in reserved[i] /\ status[e] = "retry" THEN "new" ELSE status[e]]
       ELSE UNCHANGED status
    /\ reserved' = [reserved EXCEPT ![i] = {}]
    /\ UNCHANGED <<attempts, lease, owner, pending, process, belief, batch, broker, troubles>>

\* outboxd.workers.upkeep.retries.RetryScheduler._promote
promote_unanswered(i) ==
    /\ Unanswered /\ Trouble
    /\ Running(i) /\ reserved[i] # {} /\ Fenced(i)
    /\ \A other \in Instances : pending[other] = {}
    /\ pending' = [pending EXCEPT ![i] = reserved[i]]
    /\ reserved' = [reserved EXCEPT ![i] = {}]
    /\ UNCHANGED <<status, attempts, lease, owner, process, belief, batch, broker>>

\* outboxd.store.upkeep.MySqlUpkeep.move_dead
move_dead(i) ==
    /\ Owns(i) /\ Alive(i)
    /\ Rows("error") # {}
    /\ status' = [e \in Events |-> IF status[e] = "error" THEN "dead" ELSE status[e]]
    /\ UNCHANGED <<attempts, lease, owner, pending, process, belief, batch, reserved, broker, troubles>>

-------------------------------------------------------------------------------
Leasing(i) == register(i) \/ trusted_lapses(i) \/ renew(i) \/ take(i) \/ give_back(i) \/ \E gone \in Instances : evict_expired(i, gone)

Relaying(i, h) ==
    \/ read(i, h) \/ standing(i, h) \/ hand_over(i, h) \/ look(i, h) \/ split(i, h) \/ without(i, h) \/ retire(i, h)
    \/ sent(i, h) \/ reject(i, h)

Upkeep(i) == reserve(i) \/ promote(i) \/ promote_unanswered(i) \/ move_dead(i)

World(i) == crash(i) \/ pause(i) \/ resume(i) \/ ttl_passes(i) \/ server_commits(i) \/ server_rolls_back(i)

Next ==
    \/ \E e \in Events : commit(e) \/ requeue(e)
    \/ late_arrival
    \/ \E i \in Instances : Leasing(i) \/ Upkeep(i) \/ World(i)
    \/ \E i \in Instances, h \in Holders : Relaying(i, h) \/ broker_append(i, h)

\* The instances are alike.
Symmetry == Permutations(Instances)

Spec == Init /\ [][Next]_vars

\* For "eventually": the daemon and the broker do what they can (no application, no trouble and no late packet is
\* needed for it), and all that waits for its retry is due in the end.
Progress ==
    \E i \in Instances, h \in Holders :
        \/ register(i) \/ renew(i) \/ take(i) \/ reserve(i) \/ promote(i) \/ move_dead(i)
        \/ \E gone \in Instances : evict_expired(i, gone)
        \/ read(i, h) \/ standing(i, h) \/ hand_over(i, h) \/ broker_append(i, h) \/ look(i, h) \/ split(i, h)
        \/ retire(i, h) \/ sent(i, h) \/ reject(i, h)
        \/ resume(i) \/ ttl_passes(i) \/ server_rolls_back(i)

AllDue(i) == reserve(i) /\ reserved'[i] = Rows("retry")

FairSpec == Spec /\ WF_vars(Progress) /\ \A i \in Instances : SF_vars(AllDue(i))

-------------------------------------------------------------------------------
TypeOK ==
    /\ status \in [Events -> {"none", "new", "retry", "sent", "error", "dead"}]
    /\ attempts \in [Events -> 0..MaxAttempts]
    /\ lease \in [Instances -> {"none", "live", "expired"}]
    /\ owner \in Instances \cup {"nobody"}
    /\ delivered \subseteq Events \ poison

\* Promise 1: a row counts as sent only if its event was delivered...
SentIsTruthful == \A e \in Events : status[e] = "sent" => e \in delivered

\* ... and as dead only for a reason of its own.
DeadForAReason == \A e \in Events : status[e] \in {"error", "dead"} => e \in poison \/ attempts[e] = MaxAttempts

\* In the end all that was committed is delivered, or stands in the dead letters.
EventuallyDone == \A e \in Events : status[e] = "new" ~> status[e] \in {"sent", "dead"}

\* Promise 2.
InOrder == ~reordered
===============================================================================
