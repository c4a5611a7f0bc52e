%% Times one workload on gen_statem machines and prints the microseconds and how each machine was found afterwards.
%% Ids are binaries, and each send looks its process up in an ETS table.
-module(bench).
-export([main/1]).

-define(AMOUNT, 3).

main([Workload, MachineCount, SenderCount, EventCount]) ->
    Machines = list_to_integer(MachineCount),
    Senders = list_to_integer(SenderCount),
    Events = list_to_integer(EventCount),
    Table = ets:new(registry, [set, public, {read_concurrency, true}]),
    Ids = [spawn_machine(Table, Number) || Number <- lists:seq(0, Machines - 1)],
    Hands = [hand(Ids, Sender, Senders) || Sender <- lists:seq(0, Senders - 1)],
    warm_up(),
    {Micros, ok} = timer:tc(fun() -> work(Workload, Table, Ids, Hands, Events) end),
    io:format("micros ~b~n", [Micros]),
    [print_end(Table, Id) || Id <- Ids],
    halt(0).

spawn_machine(Table, Number) ->
    Id = iolist_to_binary(["order-", integer_to_binary(Number)]),
    {ok, Pid} = light:start_link(),
    true = ets:insert_new(Table, {Id, Pid}),
    Id.

hand(Ids, Sender, Senders) ->
    [Id || {Number, Id} <- lists:enumerate(0, Ids), Number rem Senders =:= Sender].

%% Loads the code of both calls; on a machine of its own, so that the counts stay exact.
warm_up() ->
    {ok, Pid} = light:start_link(),
    gen_statem:cast(Pid, {go, ?AMOUNT}),
    [gen_statem:call(Pid, {go, ?AMOUNT}) || _ <- lists:seq(1, 1000)],
    gen_statem:stop(Pid).

work("w1", Table, _Ids, Hands, Events) ->
    Clients = [spawn_monitor(fun() -> ask_all(Table, Hand, Events) end) || Hand <- Hands],
    [receive {'DOWN', Ref, process, Pid, normal} -> ok end || {Pid, Ref} <- Clients],
    ok;
work("w4", Table, Ids, _Hands, Events) ->
    ask_all(Table, Ids, Events);
work("w2-round", Table, Ids, _Hands, Events) ->
    tell_all(Table, Ids, Events - 1, fun erlang:yield/0);
work("w2-burst", Table, Ids, _Hands, Events) ->
    tell_all(Table, Ids, Events - 1, fun() -> true end).

ask_all(_Table, _Ids, 0) -> ok;
ask_all(Table, Ids, Events) ->
    lists:foreach(fun(Id) -> gen_statem:call(whereis_id(Table, Id), {go, ?AMOUNT}) end, Ids),
    ask_all(Table, Ids, Events - 1).

%% The last event to each machine is a call: signals between two processes keep their order, so it ends the drain.
tell_all(Table, Ids, 0, _Turn) -> ask_all(Table, Ids, 1);
tell_all(Table, Ids, Rounds, Turn) ->
    lists:foreach(fun(Id) -> gen_statem:cast(whereis_id(Table, Id), {go, ?AMOUNT}) end, Ids),
    Turn(),
    tell_all(Table, Ids, Rounds - 1, Turn).

whereis_id(Table, Id) -> ets:lookup_element(Table, Id, 2).

print_end(Table, Id) ->
    {State, {data, Customer, Total, Weight, Urgent, Seq}} = gen_statem:call(whereis_id(Table, Id), snapshot),
    io:format("end ~s ~s ~b ~.1f ~s ~b~n", [string:uppercase(atom_to_list(State)), Customer, Total, Weight, Urgent, Seq]).
