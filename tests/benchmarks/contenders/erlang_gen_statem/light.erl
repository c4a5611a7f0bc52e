%% The workload's machine as a gen_statem: two states, one event, a before-hook that allows, a body that adds the amount to
%% one of four fields, an after-hook.
-module(light).
-behaviour(gen_statem).
-export([start_link/0, init/1, callback_mode/0, a/3, b/3]).

-record(data, {customer = <<"c-1">>, total = 0, weight = 1.5, urgent = false, seq = 0}).

start_link() -> gen_statem:start_link(?MODULE, [], []).

init([]) -> {ok, a, #data{}}.

callback_mode() -> state_functions.

a(Kind, Event, Data) -> handle(Kind, Event, a, b, Data).

b(Kind, Event, Data) -> handle(Kind, Event, b, a, Data).

handle({call, From}, snapshot, Old, _New, #data{} = Data) ->
    {keep_state_and_data, [{reply, From, {Old, Data}}]};
handle({call, From}, {go, Amount}, Old, New, Data) ->
    true = before(Old, New),
    {Reply, Next} = add(Amount, Data),
    done(Old, New),
    {next_state, New, Next, [{reply, From, Reply}]};
handle(cast, {go, Amount}, Old, New, Data) ->
    true = before(Old, New),
    {_Reply, Next} = add(Amount, Data),
    done(Old, New),
    {next_state, New, Next}.

before(_Old, _New) -> true.

add(Amount, #data{total = Total, seq = Seq} = Data) ->
    Sum = Total + Amount,
    {Sum, Data#data{total = Sum, seq = Seq + 1}}.

done(_Old, _New) -> ok.
