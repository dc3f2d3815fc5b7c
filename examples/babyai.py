"""A level of BabyAI whose mission only the expert is told: go to the ball of one colour. Needs the extra `[minigrid]`.

All four balls are there. The agent sees where they are, and a guide tells it after each step whether it came nearer to
the right one, nine times in ten. The expert is BabyAI's own bot, which plans anew after each action of the agent.

A clone of the bot takes its own first steps for evidence of the mission, and goes to a wrong ball, past the guide.
"""

import gymnasium as gym
import jax
import numpy as np
import tyro
from minigrid.envs.babyai.core.roomgrid_level import RoomGridLevel
from minigrid.envs.babyai.core.verifier import GoToInstr, ObjDesc
from minigrid.utils.baby_ai_bot import BabyAIBot

import undelude as ud
import undelude.gym as ug

COLOURS = ["red", "green", "blue", "purple"]


class GoToBall(RoomGridLevel):
    """One room with a ball of each colour; the mission names that of the context."""

    def reset(self, *, seed=None, options=None):
        self.colour, self.taken = options["context"], None
        return super().reset(seed=seed)

    def gen_mission(self):
        self.place_agent()
        self.balls = [self.add_object(0, 0, "ball", colour)[0] for colour in COLOURS]
        self.check_objs_reachable()
        self.instrs = GoToInstr(ObjDesc("ball", self.colour))

    def step(self, action):
        self.taken = action
        return super().step(action)


class Places(gym.ObservationWrapper):
    """Where each ball is from the agent: cells ahead, cells to the right. A ball that it carries is at its place."""

    def __init__(self, env):
        super().__init__(env)
        places = gym.spaces.Box(-10, 10, (2 * len(COLOURS),), np.float32)
        self.observation_space = gym.spaces.Dict({**env.observation_space.spaces, "places": places})

    def observation(self, observation):
        room = self.unwrapped
        at = [room.agent_pos if ball is room.carrying else ball.cur_pos for ball in room.balls]
        away = np.array(at) - room.agent_pos
        places = np.stack([away @ room.dir_vec, away @ room.right_vec], -1)
        return {**observation, "places": places.ravel().astype(np.float32)}


def make_level():
    return Places(GoToBall(num_rows=1, num_cols=1, room_size=6, max_steps=64))


def distance(observation, colour):
    k = COLOURS.index(colour)
    return abs(observation["places"][2 * k : 2 * k + 2]).sum()


def make_bot(env, colour):
    bot = BabyAIBot(env)  # made after each reset: it reads the mission from the level
    return lambda observation: int(bot.replan(env.unwrapped.taken))


def main(
    num_rounds: int = 40, num_envs: int = 64, num_demos: int = 1024, steps: int = 600, num_episodes: int = 256
) -> dict[str, float]:
    world = ug.HostWorld(
        make_level,
        num_rounds=num_rounds,
        num_envs=num_envs,
        contexts=COLOURS,
        hide=ug.HideKeys("mission", "image", "direction"),
        cue=ug.WarmerColder(distance, right=0.9),
        make_expert=make_bot,
        reward_observed=False,
        at_end="end",
        name="go to a ball",
    )
    keys = jax.random.split(jax.random.key(0), 4)
    demos = ud.rollout(world, None, executor="expert", key=keys[0], num_episodes=num_demos)
    network = ud.normalise(ud.GRUAgent(world, 64, key=keys[1]), demos)
    size = {"steps": steps, "batch_size": min(64, num_demos)}
    clone = ud.teach(world, network, ud.Cloning(), key=keys[2], data=demos, **size)
    taught = ud.teach(world, network, ud.Counterfactual(), key=keys[2], reuse=8, **size)
    reached = {}
    print(f"{'agent':<10}{'reaches the ball':>22}{'log-loss of the bot on own histories':>40}")
    for name, agent in {"expert": None, "cloned": clone.agent, "taught": taught.agent}.items():
        executor = "expert" if agent is None else "agent"
        episodes = ud.rollout(world, agent, executor=executor, key=keys[3], num_episodes=num_episodes)
        found = np.asarray(episodes.reward).sum(1) > 0
        reached[name] = float(found.mean())
        line = f"{name:<10}{reached[name]:>14.3f} ± {found.std() / num_episodes**0.5:.3f}"
        if agent is not None:
            report = ud.certify(world, agent, key=keys[3], num_episodes=num_episodes, baselines=False)
            line += f"{report.action_log_loss:>32.2f} ± {report.action_log_loss_se:.2f}"
        print(line)
    return reached


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
